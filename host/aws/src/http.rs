//! The HTTP client: rustls with ring, made when it is first needed.

use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};

/// One client for all services of a process.
pub(crate) fn client() -> SharedHttpClient {
    SharedHttpClient::new(LazyClient(Arc::default()))
}

/// The SDK's own client reads all root certificates of the system as soon as a service client is made, and also for
/// endpoints without TLS. This one makes the inner client with the first request that needs it.
#[derive(Debug)]
struct LazyClient(Arc<Clients>);

#[derive(Debug, Default)]
struct Clients {
    tls: OnceLock<SharedHttpClient>,
    plain: OnceLock<SharedHttpClient>,
}

impl Clients {
    fn of(&self, request: &HttpRequest) -> &SharedHttpClient {
        let builder = || Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
        if !request.uri().starts_with("http://") {
            return self.tls.get_or_init(|| builder().build_https());
        }
        // Without roots: nothing is read.
        self.plain.get_or_init(|| match TlsContext::builder().with_trust_store(TrustStore::empty()).build() {
            Ok(context) => builder().tls_context(context).build_https(),
            // Cannot happen with rustls, and with roots it works too.
            Err(_) => builder().build_https(),
        })
    }
}

// `validate_base_client_config` stays the default on purpose: the inner client's would read the roots.
impl HttpClient for LazyClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(LazyConnector {
            clients: Arc::clone(&self.0),
            settings: settings.clone(),
            components: components.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some("1.x".into())))
    }
}

/// Chooses per request: only a request has a scheme. The inner clients keep their connections by settings.
#[derive(Debug)]
struct LazyConnector {
    clients: Arc<Clients>,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for LazyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.clients.of(&request).http_connector(&self.settings, &self.components).call(request)
    }
}
