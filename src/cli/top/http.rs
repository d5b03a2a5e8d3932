//! Where metrics are read, and one `GET` of it with bounds: no client of HTTP is needed for that.

use std::fmt;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::config::Endpoint;

/// A larger page is refused.
pub(super) const PAGE_BYTES_MAX: usize = 32 << 20;
/// A longer head is none.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// So long a page may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;

/// A page of metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    host: String,
    port: u16,
    path: String,
}

/// Where metrics come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsFrom {
    /// There; when it does not answer that is said.
    Page(Page),
    /// The default of `admin.listener`, if the cluster is on this machine and a Tidegate answers.
    WhereTheyMayBe,
    /// Nowhere.
    Nowhere,
}

/// Why there is no page.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageError {
    /// Nobody could be reached, or the connection broke.
    #[error("{page}: {reason}")]
    Failed {
        /// What was asked for.
        page: Page,
        /// The operating system's words.
        reason: String,
    },
    /// It took too long.
    #[error("{page}: no whole answer in {} s", TIMEOUT.as_secs())]
    TimedOut {
        /// What was asked for.
        page: Page,
    },
    /// It is too large.
    #[error("{page}: the page has more than {} MiB", PAGE_BYTES_MAX >> 20)]
    TooLarge {
        /// What was asked for.
        page: Page,
    },
    /// It ended early.
    #[error("{page}: the answer ended before its end")]
    Truncated {
        /// What was asked for.
        page: Page,
    },
    /// It is something else.
    #[error("{page}: the answer is none of HTTP/1.0; is this an admin listener?")]
    NotHttp {
        /// What was asked for.
        page: Page,
    },
    /// There is no page.
    #[error("{page}: answered with status {status}; the page is usually /metrics")]
    Status {
        /// What was asked for.
        page: Page,
        /// What HTTP calls it.
        status: u16,
    },
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl Page {
    /// The page where a broker or proxy of this machine has it that was told nothing else.
    pub(super) fn default_of_this_machine() -> Self {
        Self { host: "127.0.0.1".to_owned(), port: 9464, path: "/metrics".to_owned() }
    }

    /// Reads `http://host:port/path`; without a path it is `/metrics`.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err("must be http://HOST:PORT/metrics; other schemes are not read".to_owned());
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let with_port = || Endpoint::parse(&format!("{authority}:{HTTP_PORT}"));
        let found = Endpoint::parse(authority).or_else(with_port);
        let named = found.filter(|it| it.port != 0 && !it.host.to_string().is_empty());
        let Some(Endpoint { host, port }) = named else {
            return Err(format!("\"{authority}\" is no HOST:PORT, such as 127.0.0.1:9464"));
        };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path must be of letters, digits and signs of ASCII".to_owned());
        }
        let path = if path.len() <= 1 { "/metrics" } else { path };
        Ok(Self { host: host.to_string(), port, path: path.to_owned() })
    }

    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What is there now.
    pub(super) async fn get(&self, clock: &Clock) -> Result<Vec<u8>, PageError> {
        match clock.timeout(TIMEOUT, self.exchange()).await {
            Ok(answered) => answered,
            Err(_) => Err(PageError::TimedOut { page: self.clone() }),
        }
    }

    async fn exchange(&self) -> Result<Vec<u8>, PageError> {
        let failed = |error: std::io::Error| PageError::Failed {
            page: self.clone(),
            reason: error.to_string(),
        };
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut stream = connected.map_err(failed)?;
        // Of version 1.0, so that the answer is one piece that the connection's end ends.
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: tidegate-cli\r\nConnection: close\r\n\r\n",
            self.path,
            self.authority()
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        let mut head = None;
        loop {
            let most = PAGE_BYTES_MAX + HEAD_BYTES_MAX + 1;
            let left = u64::try_from(most - answer.len().min(most)).unwrap_or(0);
            let read = (&mut stream).take(left).read_buf(&mut answer).await.map_err(failed)?;
            if head.is_none() {
                head = self.head(&answer)?;
            }
            match head {
                None if read == 0 => return Err(self.not_http()),
                None => {}
                Some(Head { begins, length }) => {
                    let have = answer.len() - begins.min(answer.len());
                    if length.unwrap_or(have).max(have) > PAGE_BYTES_MAX {
                        return Err(PageError::TooLarge { page: self.clone() });
                    }
                    if length.is_some_and(|length| have >= length) || read == 0 {
                        return self.body(answer, begins, length);
                    }
                }
            }
        }
    }

    fn not_http(&self) -> PageError {
        PageError::NotHttp { page: self.clone() }
    }

    /// What the body is, once the whole head is there.
    fn head(&self, answer: &[u8]) -> Result<Option<Head>, PageError> {
        let searched = answer.get(..HEAD_BYTES_MAX).unwrap_or(answer);
        let Some(at) = searched.windows(4).position(|four| four == b"\r\n\r\n") else {
            let may_be = b"HTTP/".iter().zip(answer).all(|(wanted, found)| wanted == found);
            let is_too_long = answer.len() > HEAD_BYTES_MAX;
            return if may_be && !is_too_long { Ok(None) } else { Err(self.not_http()) };
        };
        let text = String::from_utf8_lossy(searched.get(..at).unwrap_or_default());
        let mut lines = text.lines();
        let status = lines.next().and_then(status).ok_or_else(|| self.not_http())?;
        if status != 200 {
            return Err(PageError::Status { page: self.clone(), status });
        }
        let mut length = None;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().map_err(|_| self.not_http())?);
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(self.not_http());
            }
        }
        Ok(Some(Head { begins: at + 4, length }))
    }

    fn body(
        &self,
        mut answer: Vec<u8>,
        begins: usize,
        length: Option<usize>,
    ) -> Result<Vec<u8>, PageError> {
        let mut body = answer.split_off(begins.min(answer.len()));
        match length {
            Some(length) if body.len() < length => Err(PageError::Truncated { page: self.clone() }),
            Some(length) => {
                body.truncate(length);
                Ok(body)
            }
            None => Ok(body),
        }
    }
}

/// Where the body begins, and its length if that is told.
#[derive(Clone, Copy)]
struct Head {
    begins: usize,
    length: Option<usize>,
}

/// The status of `HTTP/1.0 200 OK`.
fn status(line: &str) -> Option<u16> {
    let mut words = line.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_url_is_read_and_printed_again() {
        for (given, read) in [
            ("http://127.0.0.1:9464/metrics", "http://127.0.0.1:9464/metrics"),
            ("http://broker.example.com", "http://broker.example.com:80/metrics"),
            ("http://[::1]:9464/", "http://[::1]:9464/metrics"),
            ("http://a:1/b?c=d", "http://a:1/b?c=d"),
        ] {
            assert_eq!(Page::parse(given).unwrap().to_string(), read);
        }
        for wrong in [
            "",
            "127.0.0.1:9464",
            "https://a:1/metrics",
            "http://",
            "http://:1/",
            "http://a:0/",
            "http://user@a:1/",
            "http://a:1/b c",
            "http://a:1/b\r\nX: y",
        ] {
            assert!(Page::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    /// What is read where a server answers with `answer`, and ends the connection if `ends`.
    async fn read(answer: Vec<u8>, ends: bool) -> Result<Vec<u8>, PageError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let page = Page {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            path: "/metrics".to_owned(),
        };
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
            }
            assert!(asked.starts_with(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:"));
            // Who has read enough closes.
            let _ = stream.write_all(&answer).await;
            if !ends {
                let _ = stream.read_buf(&mut asked).await;
            }
        };
        let clock = Clock::system();
        let ((), got) = futures_util::join!(served, page.get(&clock));
        got
    }

    #[tokio::test]
    async fn a_page_ends_with_its_length_or_the_connection() {
        let with_length = "HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabc";
        assert_eq!(read(with_length.into(), false).await.unwrap(), b"abc");
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nabcd".into(), true).await.unwrap(), b"abcd");
    }

    #[tokio::test]
    async fn what_is_no_page_is_named() {
        for (answer, words) in [
            ("HTTP/1.0 404 Not Found\r\n\r\n", "status 404"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nabc", "ended before its end"),
            ("HTTP/1.0 200 OK\r\nContent-Length: x\r\n\r\nabc", "none of HTTP"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "none of HTTP"),
            ("\0\0\0\u{b}kafka", "none of HTTP"),
            ("HTTP/1.0 200 OK\r\n", "none of HTTP"),
            ("", "none of HTTP"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n", "more than 32 MiB"),
        ] {
            let told = read(answer.into(), true).await.unwrap_err().to_string();
            assert!(told.contains(words) && told.starts_with("http://127.0.0.1:"), "{told}");
        }
        let endless = ["HTTP/1.0 200 OK\r\nX: ".as_bytes(), &vec![b'x'; HEAD_BYTES_MAX]].concat();
        let told = read(endless, true).await.unwrap_err().to_string();
        assert!(told.contains("none of HTTP"), "{told}");
    }

    #[tokio::test]
    async fn a_page_that_does_not_end_is_given_up() {
        let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        answer.resize(answer.len() + PAGE_BYTES_MAX + 1, b'x');
        let told = read(answer, true).await.unwrap_err().to_string();
        assert!(told.contains("more than 32 MiB"), "{told}");
    }
}
