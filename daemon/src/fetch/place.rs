//! Where hubs are and what the user's own clients left: addresses, tokens and the Hugging Face cache, from the
//! environment as huggingface_hub and modelscope read it. Never here: requests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hone_protocol::model::Hub;

/// Longest token file in bytes that is read.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Variables that the fetcher needs for hubs.
pub const HUB_VARIABLES: &[&str] = &[
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "MODELSCOPE_ENDPOINT",
    "MODELSCOPE_DOMAIN",
    "MODELSCOPE_API_TOKEN",
];

/// Variables of these that are secrets: no program that the fetcher starts gets them.
pub const SECRETS: &[&str] = &["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN"];

/// What the environment says.
pub struct Places<'e> {
    variable: &'e dyn Fn(&str) -> Option<OsString>,
}

impl<'e> Places<'e> {
    /// Reads the environment through `variable`.
    pub fn of(variable: &'e dyn Fn(&str) -> Option<OsString>) -> Places<'e> {
        Places { variable }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name)?.into_string().ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// `HF_HOME`, else the cache folder's `huggingface`.
    fn home(&self) -> Option<PathBuf> {
        self.path("HF_HOME")
            .or_else(|| Some(self.path("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(self.path("HOME")?.join(".cache/huggingface")))
    }

    /// The folder in which huggingface_hub keeps repositories. It need not be there.
    pub fn hub_cache(&self) -> Option<PathBuf> {
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.home()?.join("hub")))
    }

    /// The file in which `hf auth login` leaves its token. It need not be there.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.path("HF_TOKEN_PATH").or_else(|| Some(self.home()?.join("token")))
    }

    /// The file of certificate authorities that counts instead of the system's.
    pub fn certificates(&self) -> Option<PathBuf> {
        self.path("SSL_CERT_FILE")
    }

    /// Whether only what is on this machine may be used.
    pub(super) fn offline(&self, hub: Hub) -> bool {
        let on =
            |name| self.text(name).is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.to_lowercase().as_str()));
        hub == Hub::Huggingface && (on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"))
    }

    /// The hub's address.
    pub(super) fn endpoint(&self, hub: Hub) -> String {
        let with_scheme = |domain: String| if domain.contains("://") { domain } else { format!("https://{domain}") };
        match hub {
            Hub::Huggingface => self.text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            Hub::Modelscope => self
                .text("MODELSCOPE_ENDPOINT")
                .or_else(|| self.text("MODELSCOPE_DOMAIN"))
                .map_or_else(|| "https://www.modelscope.cn".into(), with_scheme),
        }
    }

    /// The user's token for that hub, if there is one.
    pub(super) fn token(&self, hub: Hub) -> Option<String> {
        match hub {
            Hub::Modelscope => self.text("MODELSCOPE_API_TOKEN"),
            Hub::Huggingface => self
                .text("HF_TOKEN")
                .or_else(|| self.text("HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| token_in(&self.token_file()?)),
        }
    }
}

fn token_in(file: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(TOKEN_BYTES_MAX).read_to_string(&mut text).ok()?;
    // A token with anything but plain characters is none, and would make no header.
    let token = text.trim();
    (!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_as_the_hubs_own_clients_do() {
        let home = tempfile::tempdir().unwrap();
        let of = |pairs: &'static [(&'static str, &'static str)]| {
            let home = home.path().to_owned();
            move |name: &str| match pairs.iter().find(|(key, _)| *key == name) {
                Some((_, value)) => Some(OsString::from(value)),
                None => (name == "HOME").then(|| home.clone().into()),
            }
        };
        let plain = of(&[]);
        let places = Places::of(&plain);
        assert_eq!(places.endpoint(Hub::Huggingface), "https://huggingface.co");
        assert_eq!(places.endpoint(Hub::Modelscope), "https://www.modelscope.cn");
        assert_eq!(places.token(Hub::Huggingface), None);
        assert!(!places.offline(Hub::Huggingface));
        std::fs::create_dir_all(home.path().join(".cache/huggingface")).unwrap();
        std::fs::write(home.path().join(".cache/huggingface/token"), "hf_file\n").unwrap();
        assert_eq!(places.token(Hub::Huggingface).as_deref(), Some("hf_file"));
        assert_eq!(places.hub_cache(), Some(home.path().join(".cache/huggingface/hub")));
        let named = of(&[
            ("HF_ENDPOINT", "https://hf-mirror.example"),
            ("HF_TOKEN", "hf_variable"),
            ("HF_HOME", "/models/hf"),
            ("HF_HUB_OFFLINE", "1"),
            ("MODELSCOPE_DOMAIN", "www.modelscope.ai"),
        ]);
        let places = Places::of(&named);
        assert_eq!(places.endpoint(Hub::Huggingface), "https://hf-mirror.example");
        assert_eq!(places.endpoint(Hub::Modelscope), "https://www.modelscope.ai");
        assert_eq!(places.token(Hub::Huggingface).as_deref(), Some("hf_variable"));
        assert_eq!(places.hub_cache(), Some(PathBuf::from("/models/hf/hub")));
        assert!(places.offline(Hub::Huggingface) && !places.offline(Hub::Modelscope));
    }
}
