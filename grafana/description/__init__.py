"""The dashboards of Tidegate, described once; `grafana/generate` writes Grafana's JSON from them."""
