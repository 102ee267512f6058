{{/* Prefix of all objects' names: the release's name where it says larder. */}}
{{- define "larder.fullname" -}}
{{- $byRelease := ternary .Release.Name (printf "%s-%s" .Release.Name "larder") (contains "larder" .Release.Name) -}}
{{- .Values.fullnameOverride | default $byRelease | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "larder.operator" -}}
{{ include "larder.fullname" . }}-operator
{{- end }}

{{- define "larder.cleanup" -}}
{{ include "larder.fullname" . }}-cleanup
{{- end }}

{{- define "larder.caBundle" -}}
{{ include "larder.fullname" . }}-ca
{{- end }}

{{- define "larder.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- /* What selects the operator's pods, which must never change. */}}
{{- define "larder.selectorLabels" -}}
app.kubernetes.io/name: {{ include "larder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "larder.labels" -}}
{{ include "larder.selectorLabels" . }}
{{ include "larder.releaseLabels" . }}
{{- end }}

{{- define "larder.releaseLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: larder
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* Of the hook's objects, whose pods are none of the operator's. */}}
{{- define "larder.cleanupLabels" -}}
app.kubernetes.io/name: {{ include "larder.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: cleanup
{{ include "larder.releaseLabels" . }}
{{- end }}

{{- /* An image's reference. Takes a list of the root and the image's values. */}}
{{- define "larder.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.imageRegistry | default $image.registry | trimSuffix "/" -}}
{{ $registry }}/{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* What is the same in the operator's pods and the hook's. */}}
{{- define "larder.podSpec" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
enableServiceLinks: false
{{- with .Values.operator.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- toYaml .Values.operator.podSecurityContext | nindent 2 }}
nodeSelector:
  {{- merge (dict "kubernetes.io/os" "linux") .Values.operator.nodeSelector | toYaml | nindent 2 }}
{{- with .Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What is the same in the operator's container and the hook's. */}}
{{- define "larder.container" -}}
image: {{ include "larder.image" (list . .Values.operator.image) }}
imagePullPolicy: {{ .Values.operator.image.pullPolicy }}
env:
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
resources:
  {{- toYaml .Values.operator.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  readOnlyRootFilesystem: true
{{- end }}

{{- /* What the cache nodes' pods are made of, as flags of the operator's and the hook's. */}}
{{- define "larder.cacheNodeArguments" -}}
{{- $arguments := list
  (printf "--namespace=%s" .Release.Namespace)
  (printf "--cache-node-image=%s" (include "larder.image" (list . .Values.cacheNode.image)))
  (printf "--image-pull-policy=%s" .Values.cacheNode.image.pullPolicy)
  (printf "--priority-class=%s" .Values.cacheNode.priorityClassName) }}
{{- range .Values.imagePullSecrets }}
{{- $arguments = append $arguments (printf "--image-pull-secret=%s" .) }}
{{- end }}
{{- range .Values.allowedHostPaths }}
{{- $arguments = append $arguments (printf "--allowed-host-path=%s" .) }}
{{- end }}
{{- if .Values.caBundle }}
{{- $arguments = append $arguments (printf "--ca-bundle-config-map=%s" (include "larder.caBundle" .)) }}
{{- end }}
{{- with .Values.cacheNode.seLinuxOptions }}
{{- $arguments = append $arguments (printf "--selinux-options=%s" (toRawJson .)) }}
{{- end }}
{{- toYaml $arguments }}
{{- end }}

{{- /* The Job needs the account and the role before it runs. Objects of a Job that failed stay, to be looked at. */}}
{{- define "larder.hook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
argocd.argoproj.io/hook: PreDelete
argocd.argoproj.io/sync-wave: {{ . | quote }}
argocd.argoproj.io/hook-delete-policy: BeforeHookCreation,HookSucceeded
{{- end }}
