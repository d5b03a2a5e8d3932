//! A bucket of the tests' own: as much of S3's protocol as the broker speaks, over loopback, with
//! every request counted and faults on demand. Signatures are not looked at.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]
#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::disallowed_methods, reason = "tests own their files, threads and clocks")]

mod hold;
mod http;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use self::hold::Gate;
use self::http::{Answer, Request};
use super::Options;

/// The bucket's name.
const NAME: &str = "bkt";
/// The most objects of a page of a listing, as with S3.
const PAGE: usize = 1_000;

/// How the service is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// It does what it is asked.
    Fine,
    /// Every connection is closed without an answer, and nothing has an effect.
    Away,
    /// Every request is answered with 503 and has no effect.
    Busy,
    /// Of so many writes one has its effect and no answer, and one an answer of 503 and no effect.
    Lossy(u64),
}

/// How clouds bill a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// PUT, POST and LIST.
    Write,
    /// GET and HEAD.
    Read,
    /// DELETE.
    Free,
}

/// A service with one bucket. It ends with the test process; connections are closed when dropped.
pub struct Bucket {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    folder: TempDir,
    weather: Mutex<Weather>,
    /// Where reads may be held.
    gate: Gate,
    state: Mutex<State>,
    connections: Mutex<Vec<TcpStream>>,
    /// Names of files, of uploads and of versions.
    next: AtomicU64,
    /// Writes so far: whom [`Weather::Lossy`] meets.
    writes: AtomicU64,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, BTreeMap<u32, PathBuf>>,
    requests: HashMap<(Class, String), u64>,
    /// Bytes of objects and parts that came, and bytes of objects that left.
    bytes: HashMap<(Class, String), u64>,
}

#[derive(Clone)]
struct Object {
    file: PathBuf,
    bytes: u64,
    modified_s: u64,
    version: u64,
}

impl Bucket {
    /// A service on a port of its own, whose objects are on the disk of the build.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
            weather: Mutex::new(Weather::Fine),
            gate: Gate::default(),
            state: Mutex::default(),
            connections: Mutex::default(),
            next: AtomicU64::new(1),
            writes: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(shared) = weak.upgrade() else { return };
                shared.take(stream);
            }
        });
        Self { shared, port }
    }

    /// Has a broker keep its objects here.
    pub fn options(&self, options: Options) -> Options {
        let mut options = options
            .set("object.url", format!("s3://{NAME}"))
            .set("object.endpoint", format!("http://127.0.0.1:{}", self.port));
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            options.env.push((name.to_owned(), "of-the-tests".to_owned()));
        }
        options
    }

    /// Changes how the service is from the next request on. When it goes away, what is under way
    /// is cut.
    pub fn set_weather(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap() = weather;
        if weather == Weather::Away {
            for connection in self.shared.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Requests of a class so far for objects below the folder `of`; for all objects if it is
    /// empty. Those that found the service away are not counted.
    pub fn requests(&self, class: Class, of: &str) -> u64 {
        sum(&self.shared.state.lock().unwrap().requests, class, of)
    }

    /// Bytes of objects below the folder `of` that came (write) or left (read) so far.
    pub fn bytes(&self, class: Class, of: &str) -> u64 {
        sum(&self.shared.state.lock().unwrap().bytes, class, of)
    }

    /// Names and sizes of the objects below the folder `of`.
    pub fn objects(&self, of: &str) -> Vec<(String, u64)> {
        let state = self.shared.state.lock().unwrap();
        let below = state.objects.iter().filter(|(key, _)| folder(key) == of || of.is_empty());
        below.map(|(key, object)| (key.clone(), object.bytes)).collect()
    }

    /// How many objects were begun in parts, have some, and were neither completed nor given up.
    pub fn open_uploads(&self) -> usize {
        let state = self.shared.state.lock().unwrap();
        state.uploads.values().filter(|parts| !parts.is_empty()).count()
    }

    /// Changes one byte of an object where it is stored.
    pub fn damage(&self, key: &str, at: u64) {
        use std::os::unix::fs::FileExt;
        let file = self.shared.state.lock().unwrap().objects[key].file.clone();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    }

    /// Removes an object, as a careless operator does.
    pub fn remove(&self, key: &str) {
        self.shared.state.lock().unwrap().objects.remove(key).expect("the object is there");
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.set_weather(Weather::Away);
    }
}

fn sum(counts: &HashMap<(Class, String), u64>, class: Class, of: &str) -> u64 {
    let wanted =
        |(of_class, key): &(Class, String)| *of_class == class && (of.is_empty() || key == of);
    counts.iter().filter(|(key, _)| wanted(key)).map(|(_, count)| count).sum()
}

/// The first part of a name.
fn folder(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

impl Shared {
    /// Serves a connection on a thread of its own.
    fn take(self: &Arc<Self>, stream: TcpStream) {
        if *self.weather.lock().unwrap() == Weather::Away {
            return;
        }
        self.connections.lock().unwrap().push(stream.try_clone().unwrap());
        let weak = Arc::downgrade(self);
        std::thread::spawn(move || {
            let mut connection = http::Connection::new(stream);
            while let Some(request) = connection.next() {
                let Some(shared) = weak.upgrade() else { return };
                let Some(answer) = shared.answer(&request) else { return };
                if connection.answer(&request, answer).is_none() {
                    return;
                }
            }
        });
    }

    /// What is answered; `None` closes the connection without an answer.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let weather = *self.weather.lock().unwrap();
        if weather == Weather::Away {
            return None;
        }
        let class = class(request);
        {
            let mut state = self.state.lock().unwrap();
            let of = (class, folder(&request.key).to_owned());
            *state.requests.entry(of.clone()).or_default() += 1;
            if class == Class::Write {
                *state.bytes.entry(of).or_default() += request.body.len() as u64;
            }
        }
        if class == Class::Read {
            self.gate.pass(&request.key);
        }
        let busy = || Answer::error(503, "SlowDown");
        match weather {
            Weather::Busy => Some(busy()),
            Weather::Lossy(period) if class != Class::Read => {
                match self.writes.fetch_add(1, Ordering::SeqCst) % period {
                    1 => Some(busy()),
                    2 => {
                        self.carry_out(request);
                        None
                    }
                    _ => Some(self.carry_out(request)),
                }
            }
            _ => Some(self.carry_out(request)),
        }
    }

    fn carry_out(&self, request: &Request) -> Answer {
        let upload = request.query.get("uploadId");
        match (request.method.as_str(), upload) {
            ("GET", _) if request.query.contains_key("list-type") => self.list(request),
            ("GET" | "HEAD", _) => self.get(request),
            ("PUT", Some(upload)) => self.put_part(request, upload),
            ("PUT", None) => self.put(request),
            ("POST", Some(upload)) => self.complete(request, upload),
            ("POST", None) if request.query.contains_key("uploads") => self.begin(),
            ("POST", None) if request.query.contains_key("delete") => self.delete_several(request),
            ("DELETE", Some(upload)) => {
                let known = self.state.lock().unwrap().uploads.remove(upload).is_some();
                if known { Answer::new(204) } else { Answer::error(404, "NoSuchUpload") }
            }
            ("DELETE", None) => {
                self.state.lock().unwrap().objects.remove(&request.key);
                Answer::new(204)
            }
            (method, _) => panic!("{method} {} is not spoken here", request.key),
        }
    }

    fn get(&self, request: &Request) -> Answer {
        let found = self.state.lock().unwrap().objects.get(&request.key).cloned();
        let Some(object) = found else { return Answer::error(404, "NoSuchKey") };
        let range = match request.range(object.bytes) {
            Some(range) if range.is_empty() => return Answer::error(416, "InvalidRange"),
            range => range,
        };
        let (status, part) = match &range {
            Some(range) => (206, range.clone()),
            None => (200, 0..object.bytes),
        };
        let mut answer = Answer::new(status);
        if let Some(range) = range {
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes);
            answer.headers.push(("Content-Range", text));
        }
        answer.headers.push(("ETag", format!("\"{}\"", object.version)));
        answer.headers.push(("Last-Modified", http::date(object.modified_s)));
        answer.length = part.end - part.start;
        if request.method == "GET" {
            let mut state = self.state.lock().unwrap();
            let of = (Class::Read, folder(&request.key).to_owned());
            *state.bytes.entry(of).or_default() += answer.length;
            answer.file = Some((object.file, part.start));
        }
        answer
    }

    fn put(&self, request: &Request) -> Answer {
        let (file, version) = self.write(&request.body);
        let mut state = self.state.lock().unwrap();
        if request.if_none_match && state.objects.contains_key(&request.key) {
            return Answer::error(412, "PreconditionFailed");
        }
        let bytes = request.body.len() as u64;
        let object = Object { file, bytes, modified_s: now_s(), version };
        state.objects.insert(request.key.clone(), object);
        Answer::new(200).with("ETag", format!("\"{version}\""))
    }

    fn begin(&self) -> Answer {
        let upload = format!("upload-{}", self.next.fetch_add(1, Ordering::SeqCst));
        self.state.lock().unwrap().uploads.insert(upload.clone(), BTreeMap::new());
        Answer::xml(format!(
            "<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>\
             </InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&self, request: &Request, upload: &str) -> Answer {
        let number = request.query["partNumber"].parse().unwrap();
        let (file, version) = self.write(&request.body);
        match self.state.lock().unwrap().uploads.get_mut(upload) {
            Some(parts) => drop(parts.insert(number, file)),
            None => return Answer::error(404, "NoSuchUpload"),
        }
        Answer::new(200).with("ETag", format!("\"{version}\""))
    }

    fn complete(&self, request: &Request, upload: &str) -> Answer {
        let parts = self.state.lock().unwrap().uploads.remove(upload);
        let Some(parts) = parts else { return Answer::error(404, "NoSuchUpload") };
        let named = String::from_utf8_lossy(&request.body).matches("<PartNumber>").count();
        assert_eq!(named, parts.len(), "every part that came is named");
        let (file, version) = self.write(&[]);
        let mut whole = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
        for part in parts.values() {
            std::io::copy(&mut std::fs::File::open(part).unwrap(), &mut whole).unwrap();
            std::fs::remove_file(part).unwrap();
        }
        let bytes = whole.metadata().unwrap().len();
        let object = Object { file, bytes, modified_s: now_s(), version };
        self.state.lock().unwrap().objects.insert(request.key.clone(), object);
        Answer::xml(format!(
            "<CompleteMultipartUploadResult><ETag>\"{version}\"</ETag>\
             </CompleteMultipartUploadResult>"
        ))
    }

    fn delete_several(&self, request: &Request) -> Answer {
        let body = String::from_utf8_lossy(&request.body);
        let mut gone = String::new();
        for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
            self.state.lock().unwrap().objects.remove(key);
            write!(gone, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
        }
        Answer::xml(format!("<DeleteResult>{gone}</DeleteResult>"))
    }

    fn list(&self, request: &Request) -> Answer {
        let text = |name: &str| request.query.get(name).cloned().unwrap_or_default();
        let (prefix, most) = (text("prefix"), text("max-keys").parse().unwrap_or(PAGE));
        let after = text("continuation-token").max(text("start-after"));
        let state = self.state.lock().unwrap();
        let below = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let mut behind = below.skip_while(|(key, _)| **key <= after).peekable();
        let (mut contents, mut last) = (String::new(), String::new());
        for (key, object) in behind.by_ref().take(most.min(PAGE)) {
            let (modified, bytes) = (http::iso_date(object.modified_s), object.bytes);
            write!(
                contents,
                "<Contents><Key>{key}</Key><Size>{bytes}</Size><ETag>\"{}\"</ETag>\
                 <LastModified>{modified}</LastModified></Contents>",
                object.version
            )
            .unwrap();
            last.clone_from(key);
        }
        let next = match behind.peek() {
            Some(_) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
            None => String::new(),
        };
        Answer::xml(format!("<ListBucketResult>{contents}{next}</ListBucketResult>"))
    }

    /// A new file of these bytes, and a number that nothing else has.
    fn write(&self, body: &[u8]) -> (PathBuf, u64) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let file = self.folder.path().join(number.to_string());
        std::fs::write(&file, body).unwrap();
        (file, number)
    }
}

fn class(request: &Request) -> Class {
    match request.method.as_str() {
        "GET" if request.query.contains_key("list-type") => Class::Write,
        "GET" | "HEAD" => Class::Read,
        "DELETE" => Class::Free,
        _ if request.query.contains_key("delete") => Class::Free,
        _ => Class::Write,
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
