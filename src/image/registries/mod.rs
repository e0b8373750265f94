//! What the user's machine says about registries: registries.conf(5), certificates, proxies and credentials, as
//! podman, skopeo and docker read them.
//!
//! The command reads all of it and hands the result over as [`Endpoint`]s: the process that talks to registries has no
//! file system and no environment. Every file has a bound, and an error names the file and the line.

mod auth_file;
pub(super) mod certificates;
mod conf_file;
mod configuration;
mod credential_program;
mod credentials;
mod endpoint;
mod environment;
mod files;
mod login;
mod prefix;
mod proxies;
mod toml_table;

pub use certificates::system_authorities;
pub use configuration::{Configuration, Refused};
pub use credential_program::CredentialProgramFailed;
pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{ClientCertificate, Der, Endpoint, Proxies, Trust};
pub use environment::Environment;
pub use files::Unreadable;
pub use login::{KeptIn, LoginFile};

#[cfg(test)]
mod configuration_tests;
#[cfg(test)]
mod credentials_tests;
