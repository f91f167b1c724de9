{{/* The name of everything in this release. */}}
{{- define "manymodels.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "manymodels.account" -}}
{{ .Values.serviceAccount.name | default (include "manymodels.name" .) }}
{{- end }}

{{/* What selects the pods of one part; call with (dict "root" $ "part" "gateway"). */}}
{{- define "manymodels.selector" -}}
app.kubernetes.io/name: manymodels
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "manymodels.labels" -}}
{{ include "manymodels.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}
