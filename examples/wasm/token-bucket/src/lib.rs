//! Token bucket: so many requests at once for each client, and so many a second from then on.
//!
//! The configuration is "HEADER BURST PER-SECOND". Clients are told apart by HEADER; those
//! without it share a bucket. Buckets are in the shared data of the VM, so that all workers
//! of a proxy take from the same one; compare-and-swap keeps them from overwriting each other.

use proxy_wasm::traits::*;
use proxy_wasm::types::*;
use std::time::{Duration, UNIX_EPOCH};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Plugin { limit: None }) });
}}

/// Tries for a bucket that others write to at the same time; whoever fails so often is limited.
const TRIES: usize = 10;

#[derive(Clone)]
struct Limit {
    header: String,
    burst: f64,
    per_second: f64,
}

struct Plugin {
    limit: Option<Limit>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = String::from_utf8(self.get_plugin_configuration().unwrap_or_default()).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [header, burst, per_second] = words[..] {
            if let (Ok(burst), Ok(per_second)) = (burst.parse::<u32>(), per_second.parse::<f64>()) {
                if burst > 0 && per_second.is_finite() && per_second >= 0.0 {
                    self.limit = Some(Limit { header: header.to_string(), burst: burst.into(), per_second });
                    return true;
                }
            }
        }
        let _ = proxy_wasm::hostcalls::log(LogLevel::Critical, "the configuration is not HEADER BURST PER-SECOND");
        false
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { limit: self.limit.clone()? }))
    }
}

struct Stream {
    limit: Limit,
}

impl Context for Stream {}

/// A bucket in shared data: tokens as f64 and the time of that in ns as u64, little-endian.
fn decode(bytes: &[u8]) -> Option<(f64, u64)> {
    let tokens = f64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    Some((tokens, u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?)))
}

impl Stream {
    /// Takes a token. Err(wait) is for how long there is none.
    fn take(&self, key: &str) -> Result<(), Duration> {
        for _ in 0..TRIES {
            let now = self.get_current_time().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
            let (bytes, cas) = self.get_shared_data(key);
            let mut tokens = self.limit.burst;
            if let Some((left, then)) = bytes.as_deref().and_then(decode) {
                let passed = now.saturating_sub(then) as f64 / 1e9;
                tokens = (left + passed * self.limit.per_second).min(self.limit.burst);
            }
            if tokens < 1.0 {
                let wait = (1.0 - tokens) / self.limit.per_second;
                return Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(3600)));
            }
            let bucket = [(tokens - 1.0).to_le_bytes(), now.to_le_bytes()].concat();
            // Without cas nobody had a bucket yet: the first ones may overwrite each other.
            match self.set_shared_data(key, Some(&bucket), cas) {
                Ok(()) => return Ok(()),
                Err(Status::CasMismatch) => continue,
                Err(_) => break,
            }
        }
        Err(Duration::from_secs(1))
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let client = self.get_http_request_header(&self.limit.header).unwrap_or_default();
        if let Err(wait) = self.take(&format!("bucket {client}")) {
            let seconds = wait.as_secs_f64().ceil().max(1.0).to_string();
            self.send_http_response(429, vec![("retry-after", &seconds)], Some(b"too many requests\n"));
            return Action::Pause;
        }
        Action::Continue
    }
}
