//! IR, lowering to Envoy, and the delta ADS server.
