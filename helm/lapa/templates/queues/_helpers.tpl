{{/* Kueue's API version: as asked, else the newest that is served, else the newest there is. */}}
{{- define "lapa.kueueVersion" -}}
{{- if .Values.queues.apiVersion -}}
{{- .Values.queues.apiVersion -}}
{{- else if and (.Capabilities.APIVersions.Has "kueue.x-k8s.io/v1beta1") (not (.Capabilities.APIVersions.Has "kueue.x-k8s.io/v1beta2")) -}}
kueue.x-k8s.io/v1beta1
{{- else -}}
kueue.x-k8s.io/v1beta2
{{- end -}}
{{- end -}}
