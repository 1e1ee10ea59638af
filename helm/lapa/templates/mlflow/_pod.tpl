{{/* Where the server writes, and the file that says where its users are. */}}
{{- define "lapa.mlflow.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if eq .Values.mlflow.database.kind "sqlite" }}
- {name: data, mountPath: /var/lib/mlflow}
{{- end }}
{{- if .Values.mlflow.auth.enabled }}
- {name: auth, mountPath: /etc/mlflow, readOnly: true}
{{- end }}
{{- end -}}

{{/* With SQLite, nothing in here is secret: the administrator's password comes by environment. */}}
{{- define "lapa.mlflow.authConfig" -}}
[mlflow]
default_permission = {{ .Values.mlflow.auth.defaultPermission }}
database_uri = sqlite:////var/lib/mlflow/users.db
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
{{- end -}}
