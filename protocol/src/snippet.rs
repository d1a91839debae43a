//! How a service is called from outside: curl, the clients of Python and JavaScript, settings of known tools, with the
//! real address and name filled in. Never here: a secret that was not handed in, or what a screen looks like.

use serde_json::{Map, Value, json};

/// Where a key is expected when none was handed in.
pub const KEY_VARIABLE: &str = "HONE_KEY";
/// Fields of a chat request that the official clients know by name; what hone has beyond goes into `extra_body`.
const KNOWN: &[&str] = &[
    "model",
    "messages",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "n",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "tools",
    "tool_choice",
    "user",
    "metadata",
    "stream",
];

/// Where the endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// With `/v1`, for clients.
    pub base_url: String,
    /// The Unix socket, when no address can be called.
    pub unix_socket: Option<String>,
}

impl Endpoint {
    /// From the listeners as the daemon names them: an address is preferred to a socket. `None` when nothing listens.
    pub fn of(listeners: &[String]) -> Option<Endpoint> {
        let address = listeners.iter().find(|a| a.starts_with("http")).or(listeners.first())?;
        Some(Endpoint::from_listener(address))
    }

    /// From one listener: `http://HOST:PORT`, `HOST:PORT`, or the path of a socket with or without `unix:`.
    pub fn from_listener(address: &str) -> Endpoint {
        let path = address.strip_prefix("unix:").unwrap_or(address);
        if path.starts_with('/') {
            return Endpoint { base_url: "http://localhost/v1".into(), unix_socket: Some(path.to_owned()) };
        }
        let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        Endpoint { base_url: format!("http://{address}/v1"), unix_socket: None }
    }

    /// The address without `/v1`.
    fn root(&self) -> &str {
        self.base_url.strip_suffix("/v1").unwrap_or(&self.base_url)
    }
}

/// What calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// A line of the shell.
    Curl,
    /// The openai package of Python.
    Python,
    /// The openai package of JavaScript.
    JavaScript,
    /// The anthropic package of Python.
    Anthropic,
    /// The litellm package of Python.
    Litellm,
    /// The llm program: a model in its `extra-openai-models.yaml`.
    Llm,
    /// Variables that programs built on the openai or anthropic packages read.
    Environment,
}

impl Tool {
    /// All, in the order of lists.
    pub const ALL: [Tool; 7] =
        [Tool::Curl, Tool::Python, Tool::JavaScript, Tool::Anthropic, Tool::Litellm, Tool::Llm, Tool::Environment];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Curl => "curl",
            Tool::Python => "python",
            Tool::JavaScript => "javascript",
            Tool::Anthropic => "anthropic",
            Tool::Litellm => "litellm",
            Tool::Llm => "llm",
            Tool::Environment => "environment",
        }
    }

    /// Its title on a screen: names of packages, the same in all languages.
    pub fn title(self) -> &'static str {
        match self {
            Tool::Curl => "curl",
            Tool::Python => "Python (openai)",
            Tool::JavaScript => "JavaScript (openai)",
            Tool::Anthropic => "Python (anthropic)",
            Tool::Litellm => "Python (litellm)",
            Tool::Llm => "llm (extra-openai-models.yaml)",
            Tool::Environment => "OPENAI_BASE_URL, ANTHROPIC_BASE_URL",
        }
    }
}

/// A request to show.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// Name of the service.
    pub service: &'a str,
    /// The key, when it is being shown anyway; else `HONE_KEY` of the environment is read.
    pub secret: Option<&'a str>,
    /// Fields of the request besides `model`: `messages` of a chat, or `input` of embeddings.
    pub body: Map<String, Value>,
}

impl<'a> Call<'a> {
    /// A first question.
    pub fn hello(service: &'a str) -> Call<'a> {
        let body = json!({"messages": [{"role": "user", "content": "Hello!"}]});
        Call { service, secret: None, body: body.as_object().cloned().unwrap_or_default() }
    }

    /// A first request: a question, or two texts for a service that makes embeddings.
    pub fn first(service: &'a str, is_encoder: bool) -> Call<'a> {
        let mut call = Call::hello(service);
        if is_encoder {
            call.body = Map::from_iter([("input".to_owned(), json!(["Hello!", "Good morning."]))]);
        }
        call
    }

    /// Whether vectors are asked for, and no answer.
    fn is_vectors(&self) -> bool {
        self.body.contains_key("input")
    }

    /// Whether the answer is shown as it comes.
    fn is_stream(&self) -> bool {
        self.body.get("stream") == Some(&Value::Bool(true))
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("model".to_owned(), self.service.into());
        fields.extend(self.body.clone());
        fields
    }
}

/// The text to paste. `None` when the tool has no embeddings, or no way to a Unix socket and nothing else listens.
pub fn snippet(tool: Tool, endpoint: &Endpoint, call: &Call<'_>) -> Option<String> {
    let local = endpoint.unix_socket.is_some();
    match tool {
        Tool::Curl => Some(curl(endpoint, call)),
        Tool::Python => Some(python(endpoint, call)),
        _ if local => None,
        Tool::Anthropic | Tool::Llm if call.is_vectors() => None,
        Tool::JavaScript => Some(javascript(endpoint, call)),
        Tool::Anthropic => Some(anthropic(endpoint, call)),
        Tool::Litellm => Some(litellm(endpoint, call)),
        Tool::Llm => Some(llm(endpoint, call)),
        Tool::Environment => Some(environment(endpoint, call)),
    }
}

/// All that the endpoint can be called with.
pub fn all(endpoint: &Endpoint, call: &Call<'_>) -> Vec<(Tool, String)> {
    Tool::ALL.into_iter().filter_map(|tool| Some((tool, snippet(tool, endpoint, call)?))).collect()
}

/// A text between single quotes of the shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn curl(endpoint: &Endpoint, call: &Call<'_>) -> String {
    let socket =
        endpoint.unix_socket.as_ref().map_or_else(String::new, |path| format!(" --unix-socket {}", shell(path)));
    // Pieces are shown as they come.
    let buffering = if call.is_stream() { "N" } else { "" };
    let route = if call.is_vectors() { "embeddings" } else { "chat/completions" };
    // Double quotes around the header, so that the shell puts the variable in.
    let secret = call.secret.map_or_else(|| format!("${KEY_VARIABLE}"), str::to_owned);
    format!(
        "curl -s{buffering}{socket} {}/{route} \\\n  -H \"Authorization: Bearer {secret}\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -d {}",
        endpoint.base_url,
        shell(&json_value(&Value::Object(call.fields())))
    )
}

/// Characters of a value from which on it is written over several lines.
const LINE_MAX: usize = 80;

/// A value as JSON, over several lines when it is long.
fn json_value(value: &Value) -> String {
    let short = value.to_string();
    if short.len() <= LINE_MAX { short } else { format!("{value:#}") }
}

/// A value as Python writes it, over several lines when it is long; those begin with `margin` spaces.
fn python_value(value: &Value, margin: usize) -> String {
    let (inner, outer) = (" ".repeat(margin + 4), " ".repeat(margin));
    let joined = |open: char, items: Vec<String>, close: char| {
        let short = format!("{open}{}{close}", items.join(", "));
        if short.len() <= LINE_MAX && !short.contains('\n') {
            return short;
        }
        let lines: String = items.iter().map(|item| format!("{inner}{item},\n")).collect();
        format!("{open}\n{lines}{outer}{close}")
    };
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(items) => joined('[', items.iter().map(|item| python_value(item, margin + 4)).collect(), ']'),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), python_value(value, margin + 4))
            };
            joined('{', fields.iter().map(field).collect(), '}')
        }
        // JSON writes numbers and texts as Python reads them.
        plain => plain.to_string(),
    }
}

/// Arguments of a call, one on a line; what the client has no name for goes into `extra_body`.
fn python_arguments(fields: &Map<String, Value>) -> String {
    let (known, beyond): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| KNOWN.contains(&name.as_str()));
    let mut text: String =
        known.iter().map(|(name, value)| format!("    {name}={},\n", python_value(value, 4))).collect();
    if !beyond.is_empty() {
        let beyond: Map<String, Value> =
            beyond.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        text.push_str(&format!("    extra_body={},\n", python_value(&Value::Object(beyond), 4)));
    }
    text
}

fn python_key(call: &Call<'_>) -> String {
    call.secret.map_or_else(|| format!("os.environ[\"{KEY_VARIABLE}\"]"), |secret| Value::from(secret).to_string())
}

fn python(endpoint: &Endpoint, call: &Call<'_>) -> String {
    let url = Value::from(endpoint.base_url.as_str());
    let key = python_key(call);
    let (imports, socket) = match &endpoint.unix_socket {
        None => ("import os\nfrom openai import OpenAI\n", String::new()),
        Some(path) => (
            "import os\nimport httpx\nfrom openai import OpenAI\n",
            format!(
                ",\n                http_client=httpx.Client(transport=httpx.HTTPTransport(uds={}))",
                Value::from(path.as_str())
            ),
        ),
    };
    let (create, shown) = match call.is_vectors() {
        true => ("embeddings.create", "print([len(item.embedding) for item in answer.data], answer.usage)"),
        false => ("chat.completions.create", python_shown(call)),
    };
    format!(
        "{imports}\nclient = OpenAI(base_url={url}, api_key={key}{socket})\nanswer = client.{create}(\n{})\n{shown}",
        python_arguments(&call.fields())
    )
}

/// What prints the answer of a chat.
fn python_shown(call: &Call<'_>) -> &'static str {
    match call.is_stream() {
        true => {
            "for part in answer:\n    if part.choices:\n        print(part.choices[0].delta.content or \"\", end=\"\", flush=True)"
        }
        false => "print(answer.choices[0].message.content)",
    }
}

fn javascript(endpoint: &Endpoint, call: &Call<'_>) -> String {
    let key =
        call.secret.map_or_else(|| format!("process.env.{KEY_VARIABLE}"), |secret| Value::from(secret).to_string());
    let fields: String = call
        .fields()
        .iter()
        .map(|(name, value)| format!("  {name}: {},\n", json_value(value).replace('\n', "\n  ")))
        .collect();
    let (create, shown) = match (call.is_vectors(), call.is_stream()) {
        (true, _) => {
            ("embeddings.create", "console.log(answer.data.map((item) => item.embedding.length), answer.usage);")
        }
        (false, false) => ("chat.completions.create", "console.log(answer.choices[0].message.content);"),
        (false, true) => (
            "chat.completions.create",
            "for await (const part of answer) process.stdout.write(part.choices[0]?.delta?.content ?? \"\");",
        ),
    };
    format!(
        "import OpenAI from \"openai\";\n\nconst client = new OpenAI({{ baseURL: {}, apiKey: {key} }});\n\
         const answer = await client.{create}({{\n{fields}}});\n{shown}",
        Value::from(endpoint.base_url.as_str())
    )
}

/// Anthropic's messages have the system text apart and a longest answer always.
fn anthropic(endpoint: &Endpoint, call: &Call<'_>) -> String {
    let mut fields = Map::new();
    fields.insert("model".to_owned(), call.service.into());
    fields.insert("max_tokens".to_owned(), call.body.get("max_tokens").cloned().unwrap_or_else(|| 256.into()));
    let messages = call.body.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
    let (system, talk): (Vec<Value>, Vec<Value>) =
        messages.into_iter().partition(|message| message["role"] == "system");
    if let Some(system) = system.first() {
        fields.insert("system".to_owned(), system["content"].clone());
    }
    fields.insert("messages".to_owned(), talk.into());
    for name in ["temperature", "top_p"] {
        fields.extend(call.body.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let arguments: String =
        fields.iter().map(|(name, value)| format!("    {name}={},\n", python_value(value, 4))).collect();
    format!(
        "import os\nfrom anthropic import Anthropic\n\nclient = Anthropic(base_url={}, api_key={})\n\
         answer = client.messages.create(\n{arguments})\nprint(answer.content[0].text)",
        Value::from(endpoint.root()),
        python_key(call)
    )
}

fn litellm(endpoint: &Endpoint, call: &Call<'_>) -> String {
    let mut fields = call.fields();
    fields.insert("model".to_owned(), format!("openai/{}", call.service).into());
    let (create, shown) = match call.is_vectors() {
        true => ("embedding", "print([len(item[\"embedding\"]) for item in answer.data], answer.usage)"),
        false => ("completion", python_shown(call)),
    };
    format!(
        "import os\nimport litellm\n\nanswer = litellm.{create}(\n    api_base={},\n    api_key={},\n{})\n{shown}",
        Value::from(endpoint.base_url.as_str()),
        python_key(call),
        python_arguments(&fields)
    )
}

/// Then `llm keys set hone` takes the key, and `llm -m SERVICE "Hello!"` asks.
fn llm(endpoint: &Endpoint, call: &Call<'_>) -> String {
    format!(
        "- model_id: {service}\n  model_name: {service}\n  api_base: {}\n  api_key_name: hone",
        Value::from(endpoint.base_url.as_str()),
        service = Value::from(call.service)
    )
}

fn environment(endpoint: &Endpoint, call: &Call<'_>) -> String {
    let secret = call.secret.map_or_else(|| format!("\"${KEY_VARIABLE}\""), shell);
    format!(
        "export OPENAI_BASE_URL={}\nexport OPENAI_API_KEY={secret}\nexport ANTHROPIC_BASE_URL={}\n\
         export ANTHROPIC_API_KEY={secret}\n# the model is {}",
        shell(&endpoint.base_url),
        shell(endpoint.root()),
        call.service
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Call<'static> {
        let body = json!({
            "messages": [{"role": "system", "content": "You're brief."}, {"role": "user", "content": "给我\n\"one\" line, it's late"}],
            "temperature": 0.7, "min_p": 0.05, "logprobs": true, "stop": null,
        });
        Call { service: "desk", secret: None, body: body.as_object().unwrap().clone() }
    }

    #[test]
    fn all_snippets() {
        let tcp = Endpoint::from_listener("127.0.0.1:7878");
        let mut text = String::new();
        for (tool, snippet) in all(&tcp, &asked()) {
            text.push_str(&format!("== {}\n{snippet}\n\n", tool.title()));
        }
        let unix = Endpoint::from_listener("unix:/it's/http.sock");
        for (tool, snippet) in all(&unix, &Call { secret: Some("hone-abc"), ..Call::hello("desk") }) {
            text.push_str(&format!("== {}\n{snippet}\n\n", tool.title()));
        }
        for (tool, snippet) in all(&tcp, &Call::first("vectors", true)) {
            text.push_str(&format!("== {}\n{snippet}\n\n", tool.title()));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn listeners_become_endpoints() {
        for address in ["127.0.0.1:7878", "http://127.0.0.1:7878", "http://127.0.0.1:7878/"] {
            assert_eq!(Endpoint::from_listener(address).base_url, "http://127.0.0.1:7878/v1", "{address}");
        }
        for address in ["unix:/s/run/http.sock", "/s/run/http.sock"] {
            assert_eq!(Endpoint::from_listener(address).unix_socket.as_deref(), Some("/s/run/http.sock"));
        }
        let both = ["unix:/s/http.sock".to_owned(), "http://127.0.0.1:1".to_owned()];
        assert_eq!(Endpoint::of(&both).unwrap().base_url, "http://127.0.0.1:1/v1");
        assert_eq!(Endpoint::of(&[]), None);
    }
}
