//! A small static server for `dist/`, on this machine only. GET and HEAD, ranges, keep-alive; a thread per connection.
//!
//! The headers are part of the product: they isolate the page from other sites (`crossOriginIsolated`), forbid guessing
//! of types and say nothing to anyone about where the reader came from. A public host has to send the same ones.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Sent with every answer.
const HEADERS: &str = "\
Cross-Origin-Opener-Policy: same-origin\r
Cross-Origin-Embedder-Policy: require-corp\r
Cross-Origin-Resource-Policy: same-origin\r
X-Content-Type-Options: nosniff\r
Referrer-Policy: no-referrer\r
Cache-Control: no-cache\r
Accept-Ranges: bytes\r
";

/// A request's head may not be longer than this.
const HEAD_LIMIT: u64 = 16 * 1024;

/// An idle connection is closed after this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves until the process ends.
pub fn forever(dist: &Path, port: u16) -> Result<()> {
    let (listener, address) = bind(port)?;
    println!("\nUnderstudy is at http://{address}/   (Ctrl-C stops it)");
    accept(&listener, dist.to_path_buf());
    Ok(())
}

fn bind(port: u16) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("port {port} cannot be had; try another one with --port"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn accept(listener: &TcpListener, dist: PathBuf) {
    for stream in listener.incoming().flatten() {
        let dist = dist.clone();
        // A connection that breaks off concerns nobody but its browser.
        std::thread::spawn(move || converse(stream, &dist));
    }
}

/// Answers the requests of one connection, one after the other.
fn converse(stream: TcpStream, dist: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(request) = Request::read(&mut reader)? {
        let stay = request.keep_alive;
        answer(&request, dist)?.write_to(&mut stream, request.method == "HEAD", stay)?;
        if !stay {
            break;
        }
    }
    Ok(())
}

/// The parts of a request that matter here.
struct Request {
    method: String,
    target: String,
    range: Option<String>,
    keep_alive: bool,
}

impl Request {
    /// `None` when the other side has closed the connection or speaks something else than HTTP.
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut head = reader.take(HEAD_LIMIT);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_ascii_whitespace();
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let mut request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            range: None,
            keep_alive: version == "HTTP/1.1",
        };
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Ok(None);
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "range" => request.range = Some(value.to_owned()),
                "connection" if value.eq_ignore_ascii_case("close") => request.keep_alive = false,
                // A body would be taken for the next request: it is not read, so the connection ends here.
                "content-length" | "transfer-encoding" if value != "0" => request.keep_alive = false,
                _ => {}
            }
        }
        Ok(Some(request))
    }
}

/// What goes back: a status, headers of its own, and a stretch of a file or a sentence.
struct Answer {
    status: &'static str,
    headers: String,
    body: Body,
}

enum Body {
    Text(&'static str),
    File { file: File, start: u64, length: u64 },
}

impl Answer {
    fn sentence(status: &'static str, text: &'static str) -> Self {
        Self {
            status,
            headers: "Content-Type: text/plain; charset=utf-8\r\n".into(),
            body: Body::Text(text),
        }
    }

    fn write_to(self, stream: &mut TcpStream, head_only: bool, stay: bool) -> std::io::Result<()> {
        let length = match &self.body {
            Body::Text(text) => text.len() as u64,
            Body::File { length, .. } => *length,
        };
        let connection = if stay { "keep-alive" } else { "close" };
        let Self { status, headers, body } = self;
        let head = format!(
            "HTTP/1.1 {status}\r\n{HEADERS}{headers}Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        if head_only {
            return Ok(());
        }
        match body {
            Body::Text(text) => stream.write_all(text.as_bytes()),
            Body::File {
                mut file,
                start,
                length,
            } => {
                file.seek(SeekFrom::Start(start))?;
                let sent = std::io::copy(&mut file.take(length), stream)?;
                // A file that shrank meanwhile cannot be mended by waiting: the browser must see a broken answer.
                if sent == length {
                    Ok(())
                } else {
                    Err(std::io::ErrorKind::UnexpectedEof.into())
                }
            }
        }
    }
}

fn answer(request: &Request, dist: &Path) -> std::io::Result<Answer> {
    if request.method != "GET" && request.method != "HEAD" {
        return Ok(Answer::sentence(
            "405 Method Not Allowed",
            "This server only hands files out.\n",
        ));
    }
    let Some(path) = locate(dist, &request.target) else {
        return Ok(Answer::sentence("404 Not Found", "There is no such file here.\n"));
    };
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    let mut headers = format!("Content-Type: {}\r\n", media_type(&path));
    Ok(
        match request
            .range
            .as_deref()
            .map_or(Range::Whole, |range| Range::parse(range, size))
        {
            Range::Whole => Answer {
                status: "200 OK",
                headers,
                body: Body::File {
                    file,
                    start: 0,
                    length: size,
                },
            },
            Range::Part { start, length } => {
                headers.push_str(&format!(
                    "Content-Range: bytes {start}-{}/{size}\r\n",
                    start + length - 1
                ));
                Answer {
                    status: "206 Partial Content",
                    headers,
                    body: Body::File { file, start, length },
                }
            }
            Range::Outside => {
                let mut answer = Answer::sentence("416 Range Not Satisfiable", "The file is shorter than that.\n");
                answer.headers.push_str(&format!("Content-Range: bytes */{size}\r\n"));
                answer
            }
        },
    )
}

/// The file that a request's target names, if it lies inside `dist`.
fn locate(dist: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?;
    let path = decode(path.strip_prefix('/')?)?;
    if path.contains(['\\', '\0']) {
        return None;
    }
    let relative = Path::new(&path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let mut file = dist.join(relative);
    if path.is_empty() || path.ends_with('/') {
        file.push("index.html");
    }
    // A link that leads out of dist is not followed.
    let file = file.canonicalize().ok()?;
    (file.starts_with(dist.canonicalize().ok()?) && file.is_file()).then_some(file)
}

/// Percent-decoding; `None` for what is no UTF-8 or no encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { start: u64, length: u64 },
    Outside,
}

impl Range {
    /// One range of bytes; anything else (several ranges, other units, nonsense) means the whole file, as the
    /// standard allows.
    fn parse(text: &str, size: u64) -> Self {
        let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')) else {
            return Self::Whole;
        };
        let (start, end) = match (first.trim(), last.trim()) {
            ("", last) => match last.parse::<u64>() {
                Ok(count) => (size.saturating_sub(count), size),
                Err(_) => return Self::Whole,
            },
            (first, last) => {
                let end = if last.is_empty() {
                    Ok(size)
                } else {
                    last.parse::<u64>().map(|last| last.saturating_add(1))
                };
                match (first.parse::<u64>(), end) {
                    (Ok(start), Ok(end)) if last.is_empty() || end > start => (start, end.min(size)),
                    _ => return Self::Whole,
                }
            }
        };
        if start < end {
            Self::Part {
                start,
                length: end - start,
            }
        } else {
            Self::Outside
        }
    }
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|ending| ending.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "md" | "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("understudy-serve-{name}-{}", std::process::id()));
        let dist = folder.join("dist");
        std::fs::create_dir_all(dist.join("students")).unwrap();
        std::fs::write(dist.join("index.html"), "<!doctype html>").unwrap();
        std::fs::write(dist.join("students/a b.gguf"), b"0123456789").unwrap();
        std::fs::write(folder.join("secret.txt"), "secret").unwrap();
        dist
    }

    /// Serves in the background for as long as the tests run.
    fn beside(dist: &Path) -> SocketAddr {
        let (listener, address) = bind(0).unwrap();
        let dist = dist.to_path_buf();
        std::thread::spawn(move || accept(&listener, dist));
        address
    }

    /// One connection, all of the requests on it; everything that came back.
    fn ask(dist: &Path, requests: &str) -> String {
        let mut stream = TcpStream::connect(beside(dist)).unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        let mut text = String::new();
        // A refused connection may end in a reset; what matters is what came before it.
        let _ = stream.read_to_string(&mut text);
        text
    }

    fn get(dist: &Path, target: &str, more: &str) -> String {
        ask(
            dist,
            &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n"),
        )
    }

    #[test]
    fn the_page_comes_with_its_headers() {
        let text = get(&site("page"), "/?q=1", "");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n<!doctype html>"), "{text}");
        for header in [
            "Cross-Origin-Opener-Policy: same-origin",
            "Cross-Origin-Embedder-Policy: require-corp",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
            "Cache-Control: no-cache",
            "Content-Type: text/html; charset=utf-8",
            "Content-Length: 15",
        ] {
            assert!(text.contains(&format!("{header}\r\n")), "no '{header}' in {text}");
        }
    }

    #[test]
    fn a_student_comes_in_ranges() {
        let dist = site("range");
        let text = get(&dist, "/students/a%20b.gguf", "Range: bytes=2-4\r\n");
        assert!(text.starts_with("HTTP/1.1 206 "), "{text}");
        assert!(text.contains("Content-Range: bytes 2-4/10\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n234"), "{text}");
        let text = get(&dist, "/students/a%20b.gguf", "Range: bytes=10-\r\n");
        assert!(
            text.starts_with("HTTP/1.1 416 ") && text.contains("Content-Range: bytes */10\r\n"),
            "{text}"
        );
    }

    #[test]
    fn ranges_by_the_standard() {
        let part = |start, length| Range::Part { start, length };
        assert_eq!(Range::parse("bytes=0-0", 10), part(0, 1));
        assert_eq!(Range::parse("bytes=4-", 10), part(4, 6));
        assert_eq!(Range::parse("bytes=4-99", 10), part(4, 6));
        assert_eq!(Range::parse("bytes=-3", 10), part(7, 3));
        assert_eq!(Range::parse("bytes=-30", 10), part(0, 10));
        assert_eq!(Range::parse("bytes=-0", 10), Range::Outside);
        assert_eq!(Range::parse("bytes=10-12", 10), Range::Outside);
        assert_eq!(Range::parse("bytes=0-", 0), Range::Outside);
        assert_eq!(Range::parse("bytes=0-18446744073709551615", 10), part(0, 10));
        for whole in ["bytes=5-4", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b", "bytes=-", ""] {
            assert_eq!(Range::parse(whole, 10), Range::Whole, "{whole}");
        }
    }

    #[test]
    fn nothing_outside_dist_is_served() {
        let dist = site("escape");
        #[cfg(unix)]
        {
            let _ = std::fs::remove_file(dist.join("link"));
            std::os::unix::fs::symlink(dist.join("../secret.txt"), dist.join("link")).unwrap();
        }
        for target in [
            "/../secret.txt",
            "/students/../../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/students\\..\\..\\secret.txt",
            "//etc/passwd",
            "/%00",
            "/%zz",
            "/link",
            "/students",
            "index.html",
        ] {
            let text = get(&dist, target, "");
            assert!(text.starts_with("HTTP/1.1 404 "), "{target}: {text}");
            assert!(!text.contains("secret\n"), "{target}");
        }
    }

    #[test]
    fn one_connection_serves_several_requests() {
        let text = ask(
            &site("keep"),
            "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        );
        let statuses: Vec<&str> = text
            .match_indices("HTTP/1.1 ")
            .map(|(at, _)| &text[at + 9..at + 12])
            .collect();
        assert_eq!(statuses, ["200", "405", "200"], "{text}");
        assert_eq!(text.matches("<!doctype html>").count(), 1, "a HEAD has no body");
    }

    #[test]
    fn a_head_without_end_is_dropped() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(HEAD_LIMIT as usize));
        assert_eq!(ask(&site("long"), &long), "");
    }
}
