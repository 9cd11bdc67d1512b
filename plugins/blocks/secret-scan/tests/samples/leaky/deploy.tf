provider "acme" {
  api_token = "x4Vt9@@KbMxNq7PwLr2CzHj8Gy" <-- generic-secret
}
variable "pem" { default = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB@@3mQ9XvB7nT1pL8wZ3cR6hJ5gF0sYuEa4dVtKbMxNqoAoGCCqGSM49" } <-- private-key
stripe = "sk_live_@@4eC39HqLyjWDarjtT1zdp7dc" <-- stripe-key
registry_token = "npm_@@k9Qm2XvB7nT1pL8wZ3cR6hJ5gF0sYuEa4dVt" <-- npm-token
