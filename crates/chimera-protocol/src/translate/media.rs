//! Pictures, sounds and files: what kind one is, and data URLs.

use std::borrow::Cow;

use super::{
    text::Text,
    vocabulary::{MediaKind, Source},
};

/// The kind that a media type names.
pub(crate) fn kind_of(mime: &str) -> MediaKind {
    match mime.split_once('/').map_or("", |(kind, _)| kind) {
        "image" => MediaKind::Image,
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        _ => MediaKind::Document,
    }
}

/// A source given as a URL, which may hold the data itself.
pub(crate) fn from_url(url: Text<'_>) -> Source<'_> {
    let plain = url.plain();
    let inline = plain.strip_prefix("data:").and_then(|rest| {
        let (mime, data) = rest.split_once(";base64,")?;
        Some((mime.to_owned(), data.to_owned()))
    });
    match inline {
        Some((mime, data)) => Source::Inline { mime: Cow::Owned(mime), data: Text::from(data) },
        None => {
            let mime = mime_of_url(&plain).map(Cow::Borrowed);
            Source::Url { url, mime }
        }
    }
}

/// The media type that the end of a URL's path tells.
pub(crate) fn mime_of_url(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ending = path.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match ending.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "pdf" => "application/pdf",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "txt" => "text/plain",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart_and_others_are_not() {
        let Source::Inline { mime, data } = from_url("data:image/png;base64,AAA=".into()) else { panic!() };
        assert_eq!((&*mime, &*data.plain()), ("image/png", "AAA="));
        let Source::Url { mime, .. } = from_url("https://x.test/a.JPG?b=c.png".into()) else { panic!() };
        assert_eq!(mime.as_deref(), Some("image/jpeg"));
        assert_eq!(kind_of("video/mp4"), MediaKind::Video);
    }
}
