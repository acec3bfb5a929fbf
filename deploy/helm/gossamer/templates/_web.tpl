{{/* What a component that people's browsers ask has beside its pods: the read-only UI and the reports are asked alike. */}}

{{/* (dict "root" $ "component" "webserver"): its Service, Ingress and disruption budget. The pods' port is named http. */}}
{{- define "gossamer.web" -}}
{{- $name := printf "%s-%s" (include "gossamer.fullname" .root) .component }}
{{- $values := get .root.Values .component }}
{{- $pod := include "gossamer.podLabels" . }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels: {{- include "gossamer.labels" .root | nindent 4 }}
  {{- with $values.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  selector: {{- $pod | nindent 4 }}
  ports: [{name: http, port: {{ $values.service.port }}, targetPort: http}]
{{- if $values.ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ $name }}
  labels: {{- include "gossamer.labels" .root | nindent 4 }}
  {{- with $values.ingress.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $values.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  rules:
    - host: {{ required (printf "%s.ingress.host is empty: name the host." .component) $values.ingress.host }}
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: {{ $name }}, port: {name: http}}}}
  {{- with $values.ingress.tlsSecret }}
  tls: [{hosts: [{{ $values.ingress.host }}], secretName: {{ . }}}]
  {{- end }}
{{- end }}
{{- if and .root.Values.podDisruptionBudget.enabled (gt (int $values.replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "gossamer.labels" .root | nindent 4 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready serves nobody: it may always go.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- $pod | nindent 6 }}
{{- end }}
{{- end }}

{{/* (dict "root" $ "component" "webserver"): several pods of one component are on several nodes. */}}
{{- define "gossamer.spread" -}}
{{- if gt (int (get .root.Values .component).replicas) 1 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "gossamer.podLabels" . | fromYaml | toJson }}}
{{- end }}
{{- end }}
