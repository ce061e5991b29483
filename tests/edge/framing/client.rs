//! A client that sends what it is told, and reads answers as strictly as the
//! grammar allows.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    /// `None` when it broke off.
    pub body: Option<Vec<u8>>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find_map(|(held, value)| (held == name).then_some(value.as_str()))
    }

    pub fn closes(&self) -> bool {
        self.field("connection") == Some("close") || self.body.is_none()
    }
}

impl Wire {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let read = Vec::new();
        Self { stream, read }
    }

    /// To a peer that may have closed already.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The next final answer; `None` when the connection was closed instead.
    pub fn answer(&mut self, to_head: bool) -> Option<Answer> {
        loop {
            let head = self.head()?;
            let mut lines = head.split("\r\n");
            let status_line = lines.next().unwrap();
            let status = status_line
                .strip_prefix("HTTP/1.1 ")
                .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
                .and_then(|rest| rest.get(..3)?.parse().ok())
                .unwrap_or_else(|| panic!("no status line: {head:?}"));
            let fields = lines
                .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{head:?}")))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let mut answer = Answer {
                status,
                fields,
                body: Some(Vec::new()),
            };
            if status < 200 {
                assert_eq!(status, 100, "only this may come first");
                continue;
            }
            if !to_head && status != 204 && status != 304 {
                answer.body = self.body(&answer);
            }
            return Some(answer);
        }
    }

    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<_> = self.read.drain(..end + 4).collect();
                return Some(String::from_utf8(head[..end].to_vec()).unwrap());
            }
            if self.more() == 0 {
                assert_eq!(self.read.escape_ascii().to_string(), "", "half a head");
                return None;
            }
        }
    }

    fn body(&mut self, answer: &Answer) -> Option<Vec<u8>> {
        let length = answer.field("content-length");
        match (length, answer.field("transfer-encoding")) {
            (Some(length), None) => self.bytes(length.parse().unwrap()),
            (None, Some("chunked")) => {
                let mut body = Vec::new();
                loop {
                    let size = self.line()?;
                    let size = usize::from_str_radix(&size, 16).unwrap();
                    if size == 0 {
                        while !self.line()?.is_empty() {}
                        return Some(body);
                    }
                    body.extend(self.bytes(size)?);
                    assert_eq!(self.line()?, "");
                }
            }
            (None, None) => {
                while self.more() > 0 {}
                Some(std::mem::take(&mut self.read))
            }
            both => panic!("an answer framed twice: {both:?}"),
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<_> = self.read.drain(..end + 2).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if self.more() == 0 {
                return None;
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if self.more() == 0 {
                self.read.clear();
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// Everything until the other end closes.
    pub fn rest(mut self) -> Vec<u8> {
        self.stream.shutdown(Shutdown::Write).ok();
        while self.more() > 0 {}
        self.read
    }

    /// Reads more, and says how much; a reset is an end.
    fn more(&mut self) -> usize {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(count) => {
                self.read.extend_from_slice(&block[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("no answer; so far {}", self.read.escape_ascii())
            }
            Err(_) => 0,
        }
    }
}
