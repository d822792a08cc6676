//! Connections: the string of the command line, completed from the environment as psql does.

use std::env;
use std::path::Path;

use anyhow::{Context, Result};
use postgres::{Client, Config, NoTls};

use crate::options::Options;

pub fn connect(options: &Options) -> Result<Client> {
    let config = complete(options.connection.parse().context("the connection string")?, |name| {
        env::var(name).ok().filter(|value| !value.is_empty())
    })?;
    config.connect(NoTls).context("cannot connect to the server")
}

/// Adds what the string left out.
fn complete(mut config: Config, variable: impl Fn(&str) -> Option<String>) -> Result<Config> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let sockets = ["/var/run/postgresql", "/tmp"];
        let default = sockets.iter().find(|place| {
            let port = config.get_ports().first().map_or(5432, |port| *port);
            Path::new(place).join(format!(".s.PGSQL.{port}")).exists()
        });
        let default = default.map_or("localhost", |place| place);
        config.host(variable("PGHOST").as_deref().unwrap_or(default));
    }
    if config.get_ports().is_empty()
        && let Some(port) = variable("PGPORT")
    {
        config.port(port.parse().with_context(|| format!("PGPORT is \"{port}\""))?);
    }
    if config.get_user().is_none() {
        let user = variable("PGUSER").or_else(|| variable("USER")).context("no user is named")?;
        config.user(&user);
    }
    if config.get_dbname().is_none() {
        let user = config.get_user().unwrap_or_default().to_owned();
        config.dbname(&variable("PGDATABASE").unwrap_or(user));
    }
    if config.get_password().is_none()
        && let Some(password) = variable("PGPASSWORD")
    {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name("pgclip-load");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres::config::Host;

    #[test]
    fn the_environment_fills_what_the_string_leaves_out() {
        let variable = |name: &str| {
            let value = match name {
                "PGHOST" => "db.example",
                "PGPORT" => "5433",
                "PGUSER" => "loader",
                "PGPASSWORD" => "secret",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let given = complete("host=other dbname=d".parse().unwrap(), variable).unwrap();
        assert_eq!(given.get_hosts(), [Host::Tcp("other".into())]);
        assert_eq!((given.get_dbname(), given.get_ports()), (Some("d"), &[5433][..]));
        let none = complete(Config::new(), variable).unwrap();
        assert_eq!(none.get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!((none.get_user(), none.get_dbname()), (Some("loader"), Some("loader")));
        assert_eq!(none.get_password(), Some(&b"secret"[..]));
    }
}
