{{- define "lapa.s3.name" -}}
{{ include "lapa.fullname" . }}-s3
{{- end -}}

{{- define "lapa.s3.url" -}}
http://{{ include "lapa.s3.name" . }}.{{ .Release.Namespace }}.svc:{{ .Values.s3.service.port }}
{{- end -}}
