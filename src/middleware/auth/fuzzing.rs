//! What the fuzz targets call: the search for tokens in whatever a client sent.

use http::Request;

use super::find::find;
use super::{Config, InvalidPrefix};

/// Takes every token off the request, as the layer does.
pub fn take_off<B>(
    request: &mut Request<B>,
    config: &Config,
    parameter: &str,
) -> Result<(), InvalidPrefix> {
    let format = config.format()?;
    let taken = find(request, &format, &config.places, Some(parameter)).taken;
    if let Some(target) = taken.target(request.uri(), &format, parameter) {
        *request.uri_mut() = target;
    }
    taken.take_off(request.headers_mut(), &format, &config.places);
    Ok(())
}
