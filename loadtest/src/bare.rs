//! Forwarding on hyper, without anything else: a pool of connections, the head
//! as it came but for what is hop by hop.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::listener;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
}

type Sender = SendRequest<Incoming>;

struct Forwarder {
    upstream: SocketAddr,
    host: HeaderValue,
    idle: RefCell<Vec<Sender>>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let forwarder = Rc::new(Forwarder {
        upstream: options.upstream,
        host: HeaderValue::from_str(&options.upstream.to_string())?,
        idle: RefCell::default(),
    });
    listener::run(options.listen, move |client| {
        let forwarder = Rc::clone(&forwarder);
        async move {
            let service = service_fn(move |request| {
                let forwarder = Rc::clone(&forwarder);
                async move { forwarder.forward(request).await }
            });
            http1::Builder::new()
                .writev(false)
                .serve_connection(TokioIo::new(client), service)
                .await?;
            Ok(())
        }
    })
}

impl Forwarder {
    async fn forward(
        self: Rc<Self>,
        mut request: Request<Incoming>,
    ) -> anyhow::Result<Response<Incoming>> {
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().insert(HOST, self.host.clone());
        let mut sender = match self.free() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut answer = sender.send_request(request).await?;
        answer.headers_mut().remove(CONNECTION);
        // Free again when the answer has been read, which its body alone knows.
        spawn_local(async move {
            if sender.ready().await.is_ok() {
                self.idle.borrow_mut().push(sender);
            }
        });
        Ok(answer)
    }

    fn free(&self) -> Option<Sender> {
        let idle = &mut *self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find(Sender::is_ready)
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .writev(false)
            .handshake(TokioIo::new(stream))
            .await?;
        spawn_local(connection);
        Ok(sender)
    }
}
