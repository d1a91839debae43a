//! Where HTTP listens: loopback and a Unix socket, and further addresses only when the owner typed them twice. Never
//! here: what is answered, or to whom.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;
use hone_protocol::paths;
use tokio::net::{TcpListener, UnixListener};

use crate::config::{HTTP_DEFAULT, Options};
use crate::{http, machine};

/// What was bound.
pub(crate) struct Listening {
    /// The sockets.
    pub listeners: http::Listeners,
    /// Their addresses as clients write them: `http://ADDRESS:PORT`, `unix:PATH`.
    pub addresses: Vec<String>,
    /// What the owner should know: a taken port, an address that others reach.
    pub notes: Vec<String>,
}

/// An address that was asked for.
#[derive(Debug, PartialEq)]
struct Wanted {
    address: SocketAddr,
    /// Whether other machines can reach it.
    open: bool,
}

/// The addresses, each beyond loopback consented to by `--expose` in the same words.
fn wanted(http: &[String], expose: &[String]) -> anyhow::Result<Vec<Wanted>> {
    let default = [HTTP_DEFAULT.to_owned()];
    let http = if http.is_empty() { &default[..] } else { http };
    if let Some(stray) = expose.iter().find(|address| !http.contains(address)) {
        anyhow::bail!("--expose {stray} opens nothing: the same address must stand after --http");
    }
    let mut found = Vec::new();
    for text in http {
        let address: SocketAddr = text.parse().with_context(|| format!("--http {text} is not ADDRESS:PORT"))?;
        let open = !address.ip().is_loopback();
        anyhow::ensure!(
            !open || expose.contains(text),
            "--http {text}: other machines could call the endpoint there, over plain HTTP, where keys can be read on the way. \
             Keep a loopback address behind a TLS proxy or `ssh -L` (docs/listening.md); to open it all the same, \
             type it twice: --http {text} --expose {text}"
        );
        found.push(Wanted { address, open });
    }
    Ok(found)
}

/// Names for the Host list, without a port.
fn names(hosts: &[String]) -> anyhow::Result<Vec<String>> {
    for name in hosts {
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        anyhow::ensure!(
            name.len() <= 253 && name.split('.').all(plain),
            "--host-name {name:?} is not a host name: letters, digits, - and dots, without a port"
        );
    }
    Ok(hosts.to_vec())
}

/// Binds HTTP and writes the addresses where programs look for them. A taken port is named and leaves the rest working.
pub(crate) async fn bind(options: &Options, run: &Path) -> anyhow::Result<Listening> {
    let wanted = wanted(&options.http, &options.expose)?;
    let names = names(&options.hosts)?;
    let (mut tcp, mut addresses, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for Wanted { address, open } in &wanted {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr()?;
                if *open {
                    notes.push(format!("other machines can reach HTTP on {address}, where keys travel in the clear"));
                }
                addresses.push(format!("http://{address}"));
                tcp.push(listener);
            }
            Err(error) => {
                let holder = holder(address.port());
                notes.push(format!(
                    "HTTP does not listen on {address}: {error}{holder}; start honed with --http and a free port"
                ));
            }
        }
    }
    for note in &notes {
        eprintln!("honed: {note}");
    }
    let path = run.join("http.sock");
    let mut unix = Vec::new();
    if path.as_os_str().len() <= paths::SOCKET_PATH_BYTES_MAX {
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).context("the HTTP socket cannot be made")?;
        // The folder is 0700 already; the mode says the same to a reader.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        addresses.push(format!("unix:{}", path.display()));
        unix.push(listener);
    }
    std::fs::write(run.join(paths::HTTP), addresses.join("\n") + "\n")
        .context("the list of addresses cannot be written")?;
    let hosts = http::Hosts { names, addresses: wanted.iter().any(|wanted| wanted.open) };
    Ok(Listening { listeners: http::Listeners { tcp, unix, hosts, limits: http::Limits::default() }, addresses, notes })
}

/// Who listens on a port, as far as the system tells: the user, and the program where it is our own.
fn holder(port: u16) -> String {
    let ending = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let line = tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| {
        // Local address is field 1, state 0A is LISTEN, then come the user and the socket's number.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1).is_some_and(|local| local.ends_with(&ending)) && fields.get(3) == Some(&"0A");
        listens.then(|| Some((fields.get(7)?.parse().ok()?, (*fields.get(9)?).to_owned()))).flatten()
    });
    let Some((uid, socket)) = line else { return String::new() };
    let program = program_of(&socket).map_or_else(String::new, |program| format!(", program {program}"));
    format!(" (held by user {}{program})", machine::user_name(uid))
}

/// Name and process of the program that holds a socket; only our own user's can be looked into.
fn program_of(socket: &str) -> Option<String> {
    let wanted = format!("socket:[{socket}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        files
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*wanted))
            .then_some(())?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(format!("{} with process id {pid}", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_others_reach_is_typed_twice() {
        assert_eq!(wanted(&[], &[]).unwrap(), [Wanted { address: HTTP_DEFAULT.parse().unwrap(), open: false }]);
        let both = list(&["127.0.0.1:0", "[::1]:7"]);
        assert!(wanted(&both, &[]).unwrap().iter().all(|wanted| !wanted.open));
        for address in ["0.0.0.0:7077", "192.168.0.2:7077", "[::]:7077"] {
            let said = wanted(&list(&[address]), &[]).unwrap_err().to_string();
            assert!(said.contains(&format!("--expose {address}")) && said.contains("ssh -L"), "{said}");
            assert!(wanted(&list(&[address]), &list(&[address])).unwrap()[0].open);
        }
        assert!(wanted(&list(&["0.0.0.0:7077"]), &list(&["0.0.0.0:7078"])).is_err());
        assert!(wanted(&list(&["localhost:7077"]), &[]).unwrap_err().to_string().contains("localhost:7077"));
    }

    #[test]
    fn names_are_names() {
        assert_eq!(names(&list(&["models.example", "gpu-1"])).unwrap().len(), 2);
        for bad in ["", "a b", "models.example:443", "http://x", "a..b", "*"] {
            assert!(names(&list(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let said = holder(listener.local_addr().unwrap().port());
        assert!(said.contains("held by user ") && said.contains(&std::process::id().to_string()), "{said}");
        assert_eq!(holder(0), "");
    }
}
