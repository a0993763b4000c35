//! The page: its files, and what it has to know about this demo.

use std::sync::Arc;

use antipode_runtime::shutdown::Shutdown;
use axum::Json;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderValue, StatusCode, header};

use crate::chat::{self, Room};
use crate::live::Live;
use crate::world::World;

/// Everything comes from here and nothing from elsewhere; sockets go to the relays' ports.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
    connect-src 'self' http: https: ws: wss:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files: path, type, content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("../page/index.html")),
    ("/style.css", CSS, include_str!("../page/style.css")),
    ("/main.js", SCRIPT, include_str!("../page/main.js")),
    ("/chat.js", SCRIPT, include_str!("../page/chat.js")),
    ("/figures.js", SCRIPT, include_str!("../page/figures.js")),
    ("/line.js", SCRIPT, include_str!("../page/line.js")),
    ("/map.js", SCRIPT, include_str!("../page/map.js")),
    ("/land.js", SCRIPT, include_str!("../page/land.js")),
    ("/yours.js", SCRIPT, include_str!("../page/yours.js")),
];

/// What the page is served from.
#[derive(Clone, Debug)]
pub struct Page {
    /// What doesn't change while the demo runs.
    pub world: Arc<World>,
    /// What does.
    pub live: Live,
    /// The chat behind [`chat::PATH`].
    pub room: Room,
}

impl Page {
    /// All routes: the files, `/demo.json` and the chat.
    pub fn router(&self, shutdown: &Shutdown) -> Router {
        let files = FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
            router.route(path, get(move || std::future::ready(file(kind, content))))
        });
        let (page, room, shutdown) = (self.clone(), self.room.clone(), shutdown.clone());
        let talk = move |request: Request| {
            std::future::ready(chat::upgrade(request, room.clone(), &shutdown))
        };
        files
            .route("/demo.json", get(move || std::future::ready(page.state())))
            .route(chat::PATH, any(talk))
            .fallback(|| std::future::ready((StatusCode::NOT_FOUND, "nothing here\n")))
    }

    fn state(&self) -> Response {
        let state = serde_json::json!({ "world": &*self.world, "live": self.live.now() });
        let mut response = Json(state).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one file asks the browser to load has to be among the files.
    #[test]
    fn nothing_is_missing_and_nothing_comes_from_elsewhere() {
        let mut asked = 0;
        for (path, _, content) in FILES {
            let marks = ["href=\"", "src=\"", "from \"./"];
            for mark in marks {
                for rest in content.split(mark).skip(1) {
                    let name = rest.split('"').next().unwrap();
                    if name.starts_with('#') || name.starts_with("data:") {
                        continue;
                    }
                    asked += 1;
                    let served = FILES.iter().any(|(path, ..)| path[1..] == *name);
                    assert!(served, "{path} asks for {name}");
                }
            }
            assert!(!content.contains("//cdn") && !content.contains("@import"), "{path}");
        }
        assert!(asked >= FILES.len() - 1, "{asked}");
    }
}
