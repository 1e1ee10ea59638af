{{- define "lapa.mlflow.name" -}}
{{ include "lapa.fullname" . }}-mlflow
{{- end -}}

{{/* URL for clients inside the cluster. */}}
{{- define "lapa.mlflow.url" -}}
http://{{ include "lapa.mlflow.name" . }}.{{ .Release.Namespace }}.svc:{{ .Values.mlflow.service.port }}
{{- end -}}

{{/* URL for everybody: the Ingress where there is one, since who submits opens the run from outside. */}}
{{- define "lapa.mlflow.publicUrl" -}}
{{- with .Values.mlflow.ingress -}}
{{- if .enabled -}}
{{ ternary "https" "http" (ne .tlsSecret "") }}://{{ .host }}
{{- else -}}
{{ include "lapa.mlflow.url" $ }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Host headers that the server answers: the Service's names, a forwarded port, the pod (metrics), the Ingress. */}}
{{- define "lapa.mlflow.hosts" -}}
{{- $name := include "lapa.mlflow.name" . -}}
{{- $names := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- $names = append $names (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) -}}
{{- $hosts := list "localhost:*" "127.0.0.1:*" (printf "$(POD_IP):%v" .Values.mlflow.service.port) -}}
{{- range $names -}}
{{- $hosts = append $hosts (printf "%s:%v" . $.Values.mlflow.service.port) -}}
{{- end -}}
{{- if .Values.mlflow.ingress.enabled -}}
{{- $hosts = append $hosts .Values.mlflow.ingress.host -}}
{{- end -}}
{{- concat $hosts .Values.mlflow.allowedHosts | join "," -}}
{{- end -}}

{{- define "lapa.mlflow.s3Endpoint" -}}
{{- if .Values.mlflow.artifacts.endpointUrl -}}
{{- .Values.mlflow.artifacts.endpointUrl -}}
{{- else if .Values.s3.enabled -}}
{{- include "lapa.s3.url" . -}}
{{- end -}}
{{- end -}}

{{/* Settings that contradict each other end here, in words. */}}
{{- define "lapa.mlflow.check" -}}
{{- with .Values.mlflow -}}
{{- if and (eq .database.kind "postgresql") (not .database.existingSecret) -}}
{{- fail "mlflow.database.existingSecret is empty: name the Secret whose key mlflow.database.secretKey holds the URI of the PostgreSQL database, or set mlflow.database.kind=sqlite" -}}
{{- end -}}
{{- if and (eq .database.kind "sqlite") (gt (int .replicas) 1) -}}
{{- fail (printf "mlflow.replicas=%v: SQLite serves one; set mlflow.database.kind=postgresql, or mlflow.replicas=1" .replicas) -}}
{{- end -}}
{{- if not .artifacts.destination -}}
{{- fail "mlflow.artifacts.destination is empty: set the s3:// URL under which artifacts are kept" -}}
{{- end -}}
{{- if and .auth.enabled (not .auth.existingSecret) -}}
{{- fail "mlflow.auth.existingSecret is empty: name a Secret with the keys username, password and secret-key, or set mlflow.auth.enabled=false on a machine of your own" -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- fail "mlflow.ingress.host is empty: set the name by which browsers find MLflow" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Variables of the server and of the schema's upgrade. Secrets come by reference and never in arguments. */}}
{{- define "lapa.mlflow.environment" -}}
{{- $endpoint := include "lapa.mlflow.s3Endpoint" . -}}
{{- with .Values.mlflow -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: HOME
  value: /tmp
- name: MLFLOW_DISABLE_TELEMETRY
  value: "true"
# Pickled models run code where they are loaded; nothing of ours is pickled.
- name: MLFLOW_ALLOW_PICKLE_DESERIALIZATION
  value: "false"
- name: MLFLOW_SERVER_ENABLE_JOB_EXECUTION
  value: "false"
- name: MLFLOW_SERVER_ALLOWED_HOSTS
  value: {{ include "lapa.mlflow.hosts" $ | quote }}
- name: MLFLOW_BACKEND_STORE_URI
  {{- if eq .database.kind "postgresql" }}
  valueFrom:
    secretKeyRef:
      name: {{ .database.existingSecret }}
      key: {{ .database.secretKey }}
  {{- else }}
  value: sqlite:////var/lib/mlflow/mlflow.db
  {{- end }}
{{- if .auth.enabled }}
- name: MLFLOW_AUTH_CONFIG_PATH
  value: /etc/mlflow/basic_auth.ini
- name: MLFLOW_AUTH_ADMIN_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ .auth.existingSecret }}
      key: username
- name: MLFLOW_AUTH_ADMIN_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .auth.existingSecret }}
      key: password
- name: MLFLOW_FLASK_SERVER_SECRET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .auth.existingSecret }}
      key: secret-key
{{- end }}
{{- with $endpoint }}
- name: MLFLOW_S3_ENDPOINT_URL
  value: {{ . | quote }}
# boto3 since 1.36 sends checksums of a kind that some S3 servers refuse.
- name: AWS_REQUEST_CHECKSUM_CALCULATION
  value: when_required
- name: AWS_RESPONSE_CHECKSUM_VALIDATION
  value: when_required
{{- end }}
{{- if or .artifacts.region $endpoint }}
- name: AWS_DEFAULT_REGION
  value: {{ .artifacts.region | default "us-east-1" }}
{{- end }}
{{- with .artifacts.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: AWS_ACCESS_KEY_ID
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: AWS_SECRET_ACCESS_KEY
{{- end }}
{{- range $name, $value := .environment }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}
{{- end -}}
