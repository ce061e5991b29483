//! `quickstart`: an edge with everything it needs, on this machine alone.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::edge::{Edge, Sockets};
use super::error::ServeError;
use super::operations::{self, Need};
use super::serve::Signals;
use crate::admin::{HealthConfig, KeyRef, NewKey};
use crate::clock::Clock;
use crate::config::{self, Config, Environment, PASSWORD_FILE, Purpose};
use crate::crypto::Suite;
use crate::inherited::{self, Inherited};
use crate::key::KeyName;
use crate::repository::Filter;
use crate::sample::Sample;
use crate::secret::Secret;
use crate::server;
use crate::telemetry;
use crate::usage::journal::DataDir;

/// The file in the data directory that commands beside it are to be given.
const CONFIG_FILE: &str = "quickstart.toml";
const KEY_NAME: &str = "quickstart";
const RATE_LIMIT: u32 = 600;

/// Where the traffic comes in, unless it is taken.
pub const TRAFFIC_PORT: u16 = 8080;
const HEALTH_PORT: u16 = 9902;

/// What a newcomer is told.
#[derive(Debug)]
pub struct Welcome {
    pub traffic: SocketAddr,
    pub health: SocketAddr,
    pub sample: SocketAddr,
    /// For `--config` of other commands.
    pub config_file: PathBuf,
    pub token: Secret<String>,
}

/// Serves until SIGTERM or SIGINT, and first lets `welcome` say where.
///
/// Of the environment only the home directory is looked at: whatever else is
/// set is meant for another deployment.
pub fn quickstart(
    environment: &dyn Environment,
    welcome: impl FnOnce(&Welcome) -> io::Result<()>,
) -> Result<(), ServeError> {
    super::background()?.block_on(async {
        let mut signals = Signals::listen()?;
        let clock = Clock::system();
        let sample = Sample::bind().await?;
        let sample_address = sample.address()?;
        let sockets = sockets()?;
        let (config, config_file, data) = configure(environment, sample_address, &sockets)?;
        telemetry::install_logging(&config.log)?;
        let metrics = telemetry::install_metrics()?;

        let token = key(&config, &clock).await?;
        tokio::spawn(sample.serve());
        let edge = Edge::start(&config, clock, metrics, data, sockets, None).await?;
        welcome(&Welcome {
            traffic: config.server.listen,
            health: config.health.listen,
            sample: sample_address,
            config_file,
            token,
        })?;

        signals.stop().await;
        edge.drain();
        edge.ended().await
    })
}

/// Writes the configuration of this start, and reads it as any other.
fn configure(
    environment: &dyn Environment,
    sample: SocketAddr,
    sockets: &Sockets,
) -> Result<(Config, PathBuf, DataDir), ServeError> {
    let home: BTreeMap<String, String> = ["HOME", "XDG_DATA_HOME"]
        .into_iter()
        .filter_map(|name| {
            Some((
                name.to_owned(),
                environment.variable(name)?.into_string().ok()?,
            ))
        })
        .collect();
    let text = format!(
        "# Written by `cypheron-edge quickstart` at every start.\n\
         \n\
         [log]\nlevel = \"warn\"\n\
         \n\
         [server]\nlisten = \"{traffic}\"\n\
         \n\
         [health]\nlisten = \"{health}\"\n\
         \n\
         [auth]\nenvironment = \"test\"\n\
         \n\
         [keys]\nstore = \"embedded\"\n\
         \n\
         [usage]\nsink = \"sqlite\"\n\
         \n\
         [upstreams.sample]\ntarget = \"http://{sample}\"\n\
         \n\
         [[routes]]\nname = \"sample\"\npath = \"/\"\nupstream = \"sample\"\n",
        traffic = sockets.traffic(),
        health = sockets.health()?,
    );
    let directory = config::parse(&text, &home, Purpose::Operate)
        .config?
        .data
        .dir;
    let data = DataDir::claim(&directory, false)?;
    keep_password(&directory)?;
    // Other commands find the data wherever their own home is.
    let text = format!(
        "{text}\n[data]\ndir = {}\n",
        toml::Value::from(directory.display().to_string())
    );
    let file = directory.join(CONFIG_FILE);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)?
        .write_all(text.as_bytes())?;
    let config = config::parse(&text, &home, Purpose::Serve).config?;
    Ok((config, file, data))
}

/// The usual ports of the loopback, or free ones where those are taken.
///
/// They listen at once: of two that start in the same moment only one can, so
/// that the other one learns of it while it still has a choice.
fn sockets() -> Result<Sockets, ServeError> {
    let mut ours = Inherited::default();
    for (name, port) in [
        (inherited::TRAFFIC, TRAFFIC_PORT),
        (inherited::HEALTH, HEALTH_PORT),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        ours.add(name, listener.into());
    }
    Sockets::on(
        &server::Config::default(),
        &HealthConfig::default(),
        &mut ours,
    )
}

/// Makes a password unless one is kept already.
fn keep_password(directory: &Path) -> Result<(), ServeError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(directory.join(PASSWORD_FILE));
    match made {
        Ok(mut file) => {
            let random = Secret::random().map_err(io::Error::other)?;
            let mut hex = zeroize::Zeroizing::new([0; 64]);
            let text = base16ct::lower::encode_str(random.expose(), &mut *hex)
                .map_err(io::Error::other)?;
            writeln!(file, "{text}")?;
            Ok(file.sync_all()?)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The token of the key that was made for the occasion, now or at an earlier
/// start; a new one when that is no longer good.
async fn key(config: &Config, clock: &Clock) -> Result<Secret<String>, ServeError> {
    if !operations::has_keyring(config, clock).await? {
        operations::init_keyring(config, clock, Suite::default()).await?;
    }
    let operations = operations::operations(config, clock, Need::Open).await?;
    let filter = Filter {
        name: Some(KEY_NAME.to_owned()),
        active: Some(true),
    };
    for stored in operations.all(&filter).await?.keys {
        let kept = stored.key.name.as_str() == KEY_NAME;
        if kept && let Ok(token) = operations.reveal(&KeyRef::Id(stored.key.id)).await {
            return Ok(token);
        }
    }
    let name: KeyName = KEY_NAME.parse().map_err(io::Error::other)?;
    let new = NewKey {
        name,
        permissions: Vec::new(),
        rate_limit: RATE_LIMIT.try_into().map_err(io::Error::other)?,
        expires_at: None,
        allowed_ips: Vec::new(),
        recoverable: true,
    };
    let created = operations.create(new).await?;
    Ok(Secret::new(created.token.expose().to_owned()))
}
