{{/* Name of the release's objects: the release's own name says enough where it contains `lapa`. */}}
{{- define "lapa.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 35 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of a component: {root, component}. */}}
{{- define "lapa.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object: {root, component}. */}}
{{- define "lapa.labels" -}}
{{ include "lapa.selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of the pods of jobs, as lapactl puts them on (lapa_k8s/names.py). */}}
{{- define "lapa.jobSelector" -}}
app.kubernetes.io/name: lapa
app.kubernetes.io/managed-by: lapactl
{{- end -}}

{{/* Labels of the pods of policy servers, as `lapactl deploy` puts them on. */}}
{{- define "lapa.serverSelector" -}}
{{ include "lapa.jobSelector" . }}
app.kubernetes.io/component: policy-server
{{- end -}}

{{/* Whether to make an object: {root, create: auto | always | never, kind: group/version/Kind}. "true" or "". */}}
{{- define "lapa.isWanted" -}}
{{- if or (eq .create "always") (and (eq .create "auto") (.root.Capabilities.APIVersions.Has .kind)) -}}
true
{{- end -}}
{{- end -}}

{{/* An image's name: {root, image}. */}}
{{- define "lapa.image" -}}
{{- $registry := .root.Values.images.registry | default .image.registry -}}
{{- $name := .image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" $registry $name -}}{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name .image.tag -}}
{{- end -}}
{{- end -}}

{{/* Names of the pull secrets, as a pod has them. */}}
{{- define "lapa.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Security of a pod at the restricted level; takes the user, which may be empty. */}}
{{- define "lapa.podSecurity" -}}
runAsNonRoot: true
{{- if . }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Security of a container at the restricted level. */}}
{{- define "lapa.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Subjects of a RoleBinding from a map of {kind, name, namespace}: {root, subjects}. */}}
{{- define "lapa.subjects" -}}
{{- $root := .root -}}
{{- range $key, $subject := .subjects }}
- kind: {{ $subject.kind }}
  name: {{ $subject.name | quote }}
  {{- if eq $subject.kind "ServiceAccount" }}
  namespace: {{ $subject.namespace | default $root.Release.Namespace }}
  {{- else }}
  apiGroup: rbac.authorization.k8s.io
  {{- end }}
{{- end }}
{{- end -}}

{{/* A volume claim of ours: {root, component, volume: {size, storageClassName, retain}}. */}}
{{- define "lapa.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "lapa.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "lapa.labels" . | nindent 4 }}
  {{- if .volume.retain }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .volume.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .volume.size }}
{{- end -}}
