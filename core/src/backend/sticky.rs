//! What ties a request to a backend: the client's address, our cookie, or one of the app's.

use antipode_proto::trunk::v1::RequestHead;

use crate::backend::choice::Tie;
use crate::config::{StickyMode, StickyTable};

/// The tie that `head` brings.
pub(crate) fn tie_of<'a>(table: &StickyTable, head: &'a RequestHead) -> Tie<'a> {
    let ip = head.client_ip.as_bytes();
    match table.mode {
        StickyMode::None => Tie::None,
        StickyMode::Ip => Tie::Hashed { key: ip },
        StickyMode::Cookie => match cookie(head, &table.cookie) {
            Some(id) => Tie::Named { id, key: ip },
            None => Tie::Hashed { key: ip },
        },
        StickyMode::AppCookie => {
            Tie::Hashed { key: cookie(head, &table.cookie).map_or(ip, str::as_bytes) }
        }
    }
}

/// `Set-Cookie` that brings the client back to the backend `id`.
pub(crate) fn set_cookie(table: &StickyTable, id: &str) -> String {
    format!("{}={id}; Path=/; HttpOnly; SameSite=Lax", table.cookie)
}

/// The value of the first cookie of this name (RFC 6265 section 5.4).
fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    let lines = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("cookie"));
    let texts = lines.filter_map(|header| std::str::from_utf8(&header.value).ok());
    texts.flat_map(|text| text.split(';')).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use antipode_proto::trunk::v1::Header;

    use super::*;

    #[test]
    fn ties() {
        let ip: &[u8] = b"203.0.113.9";
        let by_ip = Tie::Hashed { key: ip };
        check("none", StickyMode::None, &["antipode_backend=b"], Tie::None);
        check("ip", StickyMode::Ip, &["antipode_backend=b"], by_ip);
        let named = Tie::Named { id: "b", key: ip };
        check("cookie", StickyMode::Cookie, &["antipode_backend=b"], named);
        check("among others", StickyMode::Cookie, &["x=1", "y=2; antipode_backend=\"b\""], named);
        check("no cookie yet", StickyMode::Cookie, &["x_antipode_backend=b"], by_ip);
        let app = Tie::Hashed { key: b"b" };
        check("the app's cookie", StickyMode::AppCookie, &["a=1; antipode_backend=b"], app);
        check("no such cookie yet", StickyMode::AppCookie, &[], by_ip);
    }

    #[test]
    fn the_cookie_that_is_set_is_the_one_that_is_read() {
        let table = StickyTable { mode: StickyMode::Cookie, ..StickyTable::default() };
        let line = set_cookie(&table, "b");
        assert_eq!(line, "antipode_backend=b; Path=/; HttpOnly; SameSite=Lax");
        let head = head(&[line.split(';').next().unwrap()]);
        assert!(matches!(tie_of(&table, &head), Tie::Named { id: "b", .. }));
    }

    #[track_caller]
    fn check(what: &str, mode: StickyMode, cookies: &[&str], expected: Tie<'_>) {
        let table = StickyTable { mode, ..StickyTable::default() };
        assert_eq!(tie_of(&table, &head(cookies)), expected, "{what}");
    }

    fn head(cookies: &[&str]) -> RequestHead {
        let header = |value: &&str| Header {
            name: "cookie".to_owned(),
            value: value.as_bytes().to_vec().into(),
        };
        RequestHead {
            client_ip: "203.0.113.9".to_owned(),
            headers: cookies.iter().map(header).collect(),
            ..RequestHead::default()
        }
    }
}
