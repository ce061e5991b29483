# One page: what clients see, then what could become it.
locals {
  charts = [
    {
      title  = "Requests a second, by outcome"
      series = ["sum by (outcome) (rate(cypheron_edge_requests_total{${local.job}}[$${__interval}]))"]
    },
    {
      title = "To the head of the response: p50, p95, p99 (s)"
      series = [for quantile in ["0.5", "0.95", "0.99"] :
        "histogram_quantile(${quantile}, sum by (le) (rate(cypheron_edge_request_seconds_bucket{${local.job}}[$${__interval}])))"
      ]
    },
    {
      title  = "Failures of upstreams a second"
      series = ["sum by (upstream, failure) (rate(cypheron_edge_upstream_failures_total{${local.job}}[$${__interval}]))"]
    },
    {
      title  = "Open connections, by edge"
      series = ["sum by (instance) (cypheron_edge_connections{${local.job}})"]
    },
    {
      title  = "Journal that waits for the database, by edge (bytes)"
      series = ["sum by (instance) (cypheron_edge_journal_backlog_bytes{${local.job}})"]
    },
    {
      title = "Usage a second: stored, quarantined, dropped"
      series = [for name in ["stored", "quarantined", "dropped"] :
        "sum(rate(cypheron_edge_usage_${name}_total{${local.job}}[$${__interval}]))"
      ]
    },
    {
      title  = "Reads of the key store a second, by outcome"
      series = ["sum by (outcome) (rate(cypheron_edge_directory_reads_total{${local.job}}[$${__interval}]))"]
    },
    {
      title = "Change feed: connected (1 or 0), cuts an hour"
      series = [
        "min by (instance) (cypheron_edge_store_feed_connected{${local.job}})",
        "sum by (instance) (increase(cypheron_edge_store_feed_cuts_total{${local.job}}[1h]))",
      ]
    },
    {
      title  = "Connections to the database, by pool and state"
      series = ["sum by (pool, state) (cypheron_edge_database_connections{${local.job}})"]
    },
    {
      title  = "Edges, by version"
      series = ["count by (version) (cypheron_edge_build_info{${local.job}})"]
    },
  ]
}

resource "google_monitoring_dashboard" "edge" {
  dashboard_json = jsonencode({
    displayName = var.name
    mosaicLayout = {
      columns = 48
      tiles = [for index, chart in local.charts : {
        xPos   = (index % 2) * 24
        yPos   = floor(index / 2) * 16
        width  = 24
        height = 16
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [for query in chart.series : {
              plotType        = "LINE"
              timeSeriesQuery = { prometheusQuery = query }
            }]
            yAxis = { scale = "LINEAR" }
          }
        }
      }]
    }
  })

  depends_on = [google_project_service.this]
}
