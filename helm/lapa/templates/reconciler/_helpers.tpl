{{- define "lapa.reconciler.name" -}}
{{ include "lapa.fullname" . }}-reconciler
{{- end -}}

{{/* The registry whose aliases say what should run. */}}
{{- define "lapa.reconciler.trackingUri" -}}
{{- if .Values.reconciler.trackingUri -}}
{{- .Values.reconciler.trackingUri -}}
{{- else if .Values.mlflow.enabled -}}
{{- include "lapa.mlflow.url" . -}}
{{- else -}}
{{- fail "reconciler.trackingUri is empty: set the address of the MLflow whose aliases say what should run, or enable mlflow" -}}
{{- end -}}
{{- end -}}

{{/* A contradiction ends here, in words. */}}
{{- define "lapa.reconciler.check" -}}
{{- if and .Values.mlflow.enabled .Values.mlflow.auth.enabled (not .Values.reconciler.trackingUri) (not .Values.reconciler.trackingSecret) -}}
{{- fail "reconciler.trackingSecret is empty, and mlflow.auth.enabled is true: name a Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of an MLflow user that may read" -}}
{{- end -}}
{{- end -}}
