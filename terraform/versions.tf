terraform {
  # 1.11 is the first with write-only arguments: no secret is in the state.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.9"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = {
    app = var.name
  }
}
