//! The guards stand before every route and before every path that is no route.

use hone_protocol::worker::Finish;

use super::super::ROUTES;
use super::client::{Reply, Server};
use super::fake::{Fake, KEY, Script, Step, piece};

/// Every line of the route table with a name filled in, and what is no route.
fn walk() -> Vec<(&'static str, String, bool)> {
    let mut routes: Vec<_> =
        ROUTES.iter().map(|route| (route.method, route.path.replace("{id}", "base"), route.key)).collect();
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("POST", "/v1/nothing"),
        ("POST", "/livez"),
        ("HEAD", "/livez"),
        ("PUT", "/v1/models"),
        ("PATCH", "/v1/models/base"),
        ("DELETE", "/v1/models/base"),
        ("HEAD", "/v1/models"),
        ("TRACE", "/v1/models"),
        ("OPTIONS", "/v1/chat/completions"),
        ("GET", "/livez/"),
        ("GET", "//livez"),
    ] {
        routes.push((method, path.to_owned(), true));
    }
    routes
}

async fn desk_and_server() -> (Fake, Server) {
    let desk = Fake::new([("base", Script::new(vec![piece("hi", 1), Step::End(Finish::Stop, 1)]))]);
    let server = Server::start(&desk).await;
    (desk, server)
}

/// Sends one request with these header lines and checks what every response has.
async fn send(server: &Server, method: &str, target: &str, headers: &[&str]) -> Reply {
    let body = if method == "POST" { r#"{"model":"base","messages":[{"role":"user","content":"hi"}]}"# } else { "" };
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    if method == "POST" {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut client = server.client().await;
    client.send(&format!("{request}\r\n{body}")).await;
    let reply = if method == "HEAD" { client.head().await } else { client.reply().await };
    let place = format!("{method} {target} {headers:?}: {reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"), "{place}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{place}");
    assert!(reply.header("x-request-id").is_some_and(|id| id.len() > 20), "{place}");
    assert!(reply.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{place}");
    reply
}

fn bearer() -> String {
    format!("Authorization: Bearer {KEY}")
}

const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn a_foreign_host_is_refused_everywhere() {
    let (desk, server) = desk_and_server().await;
    for (method, path, _) in walk() {
        for host in [
            &[][..],
            &["Host:"],
            &["Host: evil.test"],
            &["Host: 127.0.0.1.evil.test"],
            &["Host: localhost.evil.test"],
            &["Host: localhost."],
            &["Host: 0.0.0.0"],
            &["Host: me@localhost"],
            &["Host: localhost", "Host: localhost"],
            &["Host: localhost", "Host: evil.test"],
        ] {
            let key = bearer();
            let headers = [host, &[&key, JSON]].concat();
            let reply = send(&server, method, &path, &headers).await;
            assert_eq!(reply.status, 403, "{method} {path} {host:?}");
        }
        let absolute =
            send(&server, method, &format!("http://evil.test{path}"), &["Host: localhost", &bearer(), JSON]).await;
        assert_eq!(absolute.status, 403, "{method} {path} with a foreign authority");
    }
    assert_eq!(desk.log(), [""; 0]);
}

#[tokio::test]
async fn the_tunnelled_and_the_configured_name_pass() {
    let (_, server) = desk_and_server().await;
    for host in ["localhost:9000", "127.0.0.1:80", "[::1]:9000", "models.example", "MODELS.example:443"] {
        let reply = send(&server, "GET", "/v1/models", &[&format!("Host: {host}"), &bearer()]).await;
        assert_eq!(reply.status, 200, "{host}");
    }
    let absolute = send(&server, "GET", "http://localhost:9000/v1/models", &["Host: localhost:9000", &bearer()]).await;
    assert_eq!(absolute.status, 200);
}

#[tokio::test]
async fn a_browser_is_refused_everywhere() {
    let (desk, server) = desk_and_server().await;
    for (method, path, _) in walk() {
        for header in [
            "Origin: null",
            "Origin: http://localhost:3000",
            "Origin: http://127.0.0.1",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
            "Sec-Fetch-Site: anything",
        ] {
            let preflight = "Access-Control-Request-Private-Network: true";
            let reply = send(&server, method, &path, &["Host: localhost", header, preflight, &bearer(), JSON]).await;
            assert_eq!(reply.status, 403, "{method} {path} {header}");
        }
    }
    assert_eq!(desk.log(), [""; 0]);
    let typed = send(&server, "GET", "/livez", &["Host: localhost", "Sec-Fetch-Site: none"]).await;
    assert_eq!((typed.status, typed.body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn a_key_is_asked_for_everywhere_but_for_livez() {
    // Fewer wrong keys than make the answers late: each desk has its own count.
    let headers = [
        &[][..],
        &["Authorization: Bearer"],
        &["Authorization: Basic aGk6aG8="],
        &["Authorization: Bearer hone_x'; DROP"],
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for wrong in headers {
        let (desk, server) = desk_and_server().await;
        for (method, path, key) in walk() {
            let reply = send(&server, method, &path, &[&["Host: localhost", JSON], wrong].concat()).await;
            assert_eq!(reply.status, if key { 401 } else { 200 }, "{method} {path} {wrong:?}");
            // The one protocol that has errors of its own has them here too.
            let own = path.starts_with("/v1/messages");
            assert_eq!(own, reply.body.contains("authentication_error"), "{path}");
            if key && method != "HEAD" && !own {
                bodies.insert(reply.body);
            }
        }
        assert_eq!(desk.log(), [""; 0]);
    }
    assert_eq!(bodies.len(), 1, "one body for every wrong key: {bodies:?}");
    let (_, server) = desk_and_server().await;
    for elsewhere in [format!("/v1/models?key={KEY}"), format!("/v1/models?api_key={KEY}")] {
        let reply = send(&server, "GET", &elsewhere, &["Host: localhost", &format!("Cookie: key={KEY}")]).await;
        assert_eq!(reply.status, 401, "{elsewhere}");
    }
    let twice = send(&server, "GET", "/v1/models", &["Host: localhost", &bearer(), &bearer()]).await;
    assert_eq!(twice.status, 401);
    let both = [&bearer(), &format!("x-api-key: {KEY}")].map(|header| header.to_owned());
    let both = send(&server, "GET", "/v1/models", &["Host: localhost", &both[0], &both[1]]).await;
    assert_eq!(both.status, 401, "two keys are none");
    let other = send(&server, "GET", "/v1/models", &["Host: localhost", &format!("x-api-key: {KEY}")]).await;
    assert_eq!(other.status, 200, "{other:?}");
    let good = send(&server, "GET", "/v1/models", &["Host: localhost", &bearer()]).await;
    assert_eq!(good.status, 200);
}

#[tokio::test]
async fn a_post_that_is_not_json_by_name_is_refused() {
    let (desk, server) = desk_and_server().await;
    for (method, path, _) in walk().into_iter().filter(|(method, ..)| *method == "POST") {
        for kind in [
            &[][..],
            &["Content-Type: text/plain"],
            &["Content-Type: application/x-www-form-urlencoded"],
            &["Content-Type: multipart/form-data"],
            &["Content-Type: application/jsonp"],
            &[JSON, "Content-Type: text/plain"],
        ] {
            let reply = send(&server, method, &path, &[&["Host: localhost", &bearer()], kind].concat()).await;
            assert_eq!(reply.status, 415, "{method} {path} {kind:?}");
        }
    }
    assert_eq!(desk.log(), [""; 0]);
    let headers = ["Host: localhost", &bearer(), "Content-Type: Application/JSON; charset=utf-8"];
    assert_eq!(send(&server, "POST", "/v1/chat/completions", &headers).await.status, 200);
}
