{{- define "web.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "web.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "web.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "web.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "web.image" -}}
{{- with .Values.image }}{{ .registry }}/{{ .repository }}:{{ .tag }}{{ end -}}
{{- end -}}

{{- define "web.dockerconfig" -}}
{{- $auth := printf "%s:%s" .Values.imageCredentials.username .Values.imageCredentials.password | b64enc -}}
{{- dict "auths" (dict .Values.image.registry (dict "auth" $auth)) | toJson | b64enc -}}
{{- end -}}

{{/* What pods of the site and of the job have in common. */}}
{{- define "web.pod" -}}
serviceAccountName: {{ include "web.fullname" . }}
automountServiceAccountToken: false
{{- if .Values.imageCredentials.username }}
imagePullSecrets:
- name: {{ include "web.fullname" . }}-registry
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What their containers have in common. */}}
{{- define "web.container" -}}
image: {{ include "web.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
