# Brings /metrics to Cloud Monitoring: a container beside each edge.
locals {
  collector_config = templatefile("${path.module}/templates/collector.yaml.tftpl", {
    job           = var.name
    port          = local.ports.health
    instance_from = local.on_instances ? "host.name" : "faas.instance"
  })
}
