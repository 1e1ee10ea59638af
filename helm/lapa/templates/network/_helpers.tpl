{{/* Egress rules to networks outside: a map of {cidr, except, ports}. */}}
{{- define "lapa.network.outside" -}}
{{- range $name, $network := . }}
# {{ $name }}
- to:
    - ipBlock:
        cidr: {{ $network.cidr }}
        {{- with $network.except }}
        except:
          {{- toYaml . | nindent 10 }}
        {{- end }}
  ports:
    {{- range $network.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Peers that may call MLflow and S3: the jobs, and the namespaces of clients. */}}
{{- define "lapa.network.clients" -}}
- podSelector:
    matchLabels:
      {{- include "lapa.jobSelector" . | nindent 6 }}
{{- range .Values.networkPolicies.clientNamespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- end -}}

{{/* Peers that may read metrics; nothing where nobody is named. */}}
{{- define "lapa.network.monitoring" -}}
{{- with .Values.networkPolicies.monitoringNamespace }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- end -}}
