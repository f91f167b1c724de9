{{/*
The pod of one part; call with (dict "root" $ "part" "gateway" "values" .Values.gateway "listens" true).
Every part is the same image with another command, without root, over a root that it cannot write: it writes its home
and /tmp. The volume `home` is the caller's, because a worker's outlives its pod.
*/}}
{{- define "manymodels.pod" -}}
{{- $root := .root -}}
{{- $values := .values -}}
metadata:
  labels:
    {{- include "manymodels.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ include (print $root.Template.BasePath "/settings.yaml") $root | sha256sum }}
    {{- if .listens }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "8080"
    {{- end }}
spec:
  serviceAccountName: {{ include "manymodels.account" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $root.Values.stopping.spreadSeconds $root.Values.stopping.drainSeconds 10 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $root.Values.spread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "manymodels.selector" $ | nindent 10 }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .part }}
      image: "{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        - {{ .part }}
        - --home=/home/manymodels/home
        {{- if .listens }}
        - --host=0.0.0.0
        - --port=8080
        - --processes={{ int $values.processes }}
        {{- end }}
      envFrom:
        - configMapRef: {name: {{ include "manymodels.name" $root }}}
        {{- with $root.Values.artifacts.secret }}
        - secretRef: {name: {{ . }}}
        {{- end }}
        {{- with $root.Values.membership.secret }}
        - secretRef: {name: {{ . }}}
        {{- end }}
      env:
        {{- include "manymodels.environment" . | nindent 8 }}
      {{- if .listens }}
      ports:
        - {name: http, containerPort: 8080}
      startupProbe: # the first start makes the tables, and a worker fetches and maps its models
        httpGet: {path: /health/live, port: http}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 450
      readinessProbe:
        httpGet: {path: /health/ready, port: http}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      livenessProbe:
        httpGet: {path: /health/live, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: home, mountPath: /home/manymodels}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- if $values.homeSize }}
    - name: home
      emptyDir: {sizeLimit: {{ $values.homeSize }}}
    {{- end }}
{{- end }}

{{/* What is one part's own in its environment; $(NAME) is filled in by Kubernetes from what stands above it. */}}
{{- define "manymodels.environment" -}}
{{- $root := .root -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- name: MANYMODELS_REGISTRY
  valueFrom: {secretKeyRef: {name: {{ $root.Values.registry.secret }}, key: {{ $root.Values.registry.key }}}}
- name: MANYMODELS_DISK_CACHE_BYTES
  value: {{ int64 .values.diskCacheBytes | quote }}
{{- with $root.Values.membership.url }}
- name: MANYMODELS_MEMBERSHIP
  value: {{ . | quote }}
{{- end }}
{{- if .listens }}
- name: MANYMODELS_ADVERTISE
  value: http://$(POD_IP):8080
{{- end }}
{{- if eq .part "worker" }}
- name: MANYMODELS_SEAT # a pod that comes back has another address and the same name
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: MANYMODELS_POOL
  value: {{ .values.pool | quote }}
- name: MANYMODELS_WEIGHT
  value: {{ .values.weight | quote }}
- name: MANYMODELS_ZONE # of the machine; Kubernetes tells it to pods since 1.35, before it is empty
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- end }}
{{- range $name, $value := .values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
