//! Writer schemas by id, through `schema_registry_converter`: its request and its reading of the answer, our bound, our reactions.
//!
//! Its cache is left aside, because it remembers passing errors for ever (C25); so is its idea of what can be tried again, because it
//! takes 429, 500 and 504 for permanent; and so is its way through several registries, because there a "not found" or an answer that
//! is too long is forgotten when the next one is away.

use std::error::Error as _;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::ACCEPT;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, RegisteredSchema};
use secrecy::ExposeSecret;

use super::RegistryFault;
use super::bounded::{Bounded, fault_in};
use super::transport::{Credentials, MEDIA_TYPE, chain_of, classify, client, parse_urls, unusable};
use crate::avro::frame::SchemaId;
use crate::avro::settings::Settings;

/// Asks the first registry that answers.
#[derive(Clone)]
pub(super) struct Converter {
    registries: Arc<[(Url, SrSettings)]>,
}

impl Converter {
    pub(super) fn new(settings: &Settings) -> Result<Self, RegistryFault> {
        let credentials = Credentials::of(settings)?;
        let urls = parse_urls(&settings.url)?.into_iter();
        let registries = urls.map(|url| Ok((url.clone(), one(&url, &credentials, settings)?))).collect::<Result<_, RegistryFault>>()?;
        Ok(Self { registries })
    }

    /// The schema with `id`, soft-deleted or not. Its references are named, not fetched.
    pub(super) async fn schema(&self, id: SchemaId) -> Result<RegisteredSchema, RegistryFault> {
        let mut outcome = Err(RegistryFault::Bad("registry.url is empty".into()));
        for (base, settings) in self.registries.iter() {
            outcome = get_schema_by_id(id.0, settings).await.map_err(|error| classify_converter(&format!("schema {id} of {base}"), &error));
            if !matches!(outcome, Err(RegistryFault::Unavailable(_))) {
                break;
            }
        }
        outcome
    }
}

/// The same client, bound and credentials as [`super::transport::Transport`] has.
fn one(url: &Url, credentials: &Credentials, settings: &Settings) -> Result<SrSettings, RegistryFault> {
    let mut builder = SrSettings::new_builder(url.as_str().trim_end_matches('/').to_owned());
    match credentials {
        Credentials::None => {}
        Credentials::Basic(username, password) => {
            builder.set_basic_authorization(username, password.as_ref().map(ExposeSecret::expose_secret));
        }
        Credentials::Token(token) => {
            builder.set_token_authorization(token.expose_secret());
        }
    }
    builder.add_header(ACCEPT.as_str(), MEDIA_TYPE).set_timeout(settings.request_timeout).with_middleware(Bounded);
    builder.build_with(client(settings)?).map_err(|error| unusable(&error))
}

/// The reaction to an error of the converter, which keeps the status in its text only.
fn classify_converter(asked: &str, error: &SRCError) -> RegistryFault {
    let cause = error.source();
    if let Some(fault) = cause.and_then(fault_in) {
        return fault.clone();
    }
    let status =
        error.error.rsplit_once("with status ").and_then(|(_, rest)| rest.split(' ').next()).and_then(|status| status.parse().ok());
    let told = cause.and_then(|cause| cause.downcast_ref::<RawError>());
    match (status, cause) {
        (Some(status), _) => classify(asked, status, told.map_or(0, |told| told.error_code), told.map_or("", |told| &told.message)),
        (None, Some(cause)) => RegistryFault::Unavailable(format!("{asked}: {}: {}", error.error, chain_of(cause))),
        (None, None) => RegistryFault::Unavailable(format!("{asked}: {}", error.error)),
    }
}
