//! Images.

use super::container::platform;
use crate::body::Gone;
use crate::call::{Answer, Call};
use crate::convert::{image as convert, progress};
use crate::error::Failure;
use crate::query;
use crate::response::{self, Response};
use crate::router::{Route, route};
use corten_api_types::deltas::Shape;
use corten_api_types::{DistributionInspect, ImagesPruned, JsonMessage, ManifestSummary, SearchResult};
use corten_base::{Platform, Reference};
use corten_engine::Operation;
use corten_images::{Credentials, Descriptor, ImportOptions, WebAddress};
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use std::time::SystemTime;

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/images/json" ImageList => list),
    route!(GET "/images/search" ImageSearch => search),
    route!(GET "/images/get" ImageGetAll => save),
    route!(GET "/images/{name}/json" ImageInspect => inspect),
    route!(GET "/images/{name}/history" ImageHistory => history),
    route!(GET "/images/{name}/attestations" ImageAttestations => attestations),
    route!(GET "/images/{name}/get" ImageGet => save),
    route!(POST "/images/create" ImageCreate => create),
    route!(POST "/images/load" ImageLoad => load),
    route!(POST "/images/prune" ImagePrune => prune),
    route!(POST "/images/{name}/tag" ImageTag => tag),
    route!(POST "/images/{name}/push" ImagePush => push),
    route!(DELETE "/images/{name}" ImageDelete => remove),
    route!(GET "/distribution/{name}/json" DistributionInspect => inspect_remote),
    route!(POST "/build" ImageBuild => missing),
    route!(POST "/build/prune" BuildPrune => missing),
    route!(POST "/commit" ImageCommit => missing),
];

async fn list(call: Call) -> Answer {
    let filters = convert::filters(call.query.filters()?, call.query.flag("all"), SystemTime::now())?;
    let images = call.engine.images().list(filters).await?;
    let sharing = match call.query.flag("shared-size") {
        true => Some(call.engine.images().sharing().await?),
        false => None,
    };
    let mut lines = Vec::with_capacity(images.len());
    for image in &images {
        let mut line = convert::summary(image);
        if let Some(shared) = sharing.as_ref().and_then(|sharing| sharing.shared.get(&image.id)) {
            line.shared_size = i64::try_from(*shared).unwrap_or(i64::MAX);
        }
        if call.query.flag("manifests") {
            // What one image's index holds is no reason to show none of the others.
            match manifests(&call, &image.target).await {
                Ok(manifests) => line.manifests = Some(manifests),
                Err(error) => tracing::warn!(image = image.id.short(), error = error.message, "no list of manifests"),
            }
        } else {
            line.descriptor = None;
        }
        lines.push(line);
    }
    response::adapted_list(Shape::ImageSummary, call.version, &lines)
}

async fn inspect(call: Call) -> Answer {
    let with_manifests = call.since(48) && call.query.flag("manifests");
    let platform = if call.since(49) { platform_json(&call)? } else { None };
    if with_manifests && platform.is_some() {
        return Err(Failure::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let image = call.engine.images().resolve(&call.name, platform).await?;
    let layers = call.engine.images().layer_directories(&image).await?;
    let mut shown = convert::inspect(&image, &layers);
    if with_manifests {
        shown.manifests = Some(manifests(&call, &image.target).await?);
    }
    response::adapted(Shape::ImageInspect, call.version, &shown)
}

async fn manifests(call: &Call, target: &Descriptor) -> Result<Vec<ManifestSummary>, Failure> {
    let manifests = call.engine.images().manifests(target.clone()).await?;
    Ok(manifests.into_iter().map(convert::manifest).collect())
}

async fn attestations(call: Call) -> Answer {
    let platforms = platforms(&call, "platform")?;
    if platforms.len() > 1 {
        return Err(Failure::invalid("only one platform can be asked for"));
    }
    let (types, with_text) = (call.query.all("type"), call.query.flag("statement"));
    let image = call.engine.images().resolve(&call.name, None).await?;
    let statements = call.engine.images().attestations(image, platforms.into_iter().next(), types, with_text).await?;
    let statements = statements.into_iter().map(convert::statement).collect::<Result<Vec<_>, _>>()?;
    Ok(response::json(&statements))
}

/// One image or several as a tar. Its length is known, so that an archive that breaks off is seen to.
async fn save(call: Call) -> Answer {
    let names = if call.name.is_empty() { call.query.all("names") } else { vec![call.name.clone()] };
    let mut download = call.engine.images().save(names, platforms(&call, "platform")?).await?;
    let length = download.length;
    let mut response = response::pieces("application/x-tar", |sender| async move {
        while let Some(piece) = download.next().await {
            sender.send(piece).await?;
        }
        Ok(())
    });
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// All platforms of a parameter: one per value, or a list of them as JSON.
fn platforms(call: &Call, parameter: &str) -> Result<Vec<Platform>, Failure> {
    let mut platforms = Vec::new();
    for text in call.query.all(parameter).iter().filter(|text| !text.is_empty()) {
        platforms.extend(parse_platforms(text)?);
    }
    Ok(platforms)
}

/// `{"os": ..}`, a list of such, or the older `os/architecture`.
fn parse_platforms(text: &str) -> Result<Vec<Platform>, Failure> {
    let failed = |error: serde_json::Error| Failure::invalid(format!("failed to parse platform: {error}"));
    let given = match text.as_bytes() {
        [b'{', ..] => vec![serde_json::from_str::<Platform>(text).map_err(failed)?],
        [b'[', ..] => serde_json::from_str(text).map_err(failed)?,
        _ => return Ok(vec![Platform::parse(text)?]),
    };
    Ok(given.into_iter().map(|given| Platform::new(&given.os, &given.architecture, given.variant.as_deref())).collect())
}

/// The one platform that an operation is about, if any.
fn platform_json(call: &Call) -> Result<Option<Platform>, Failure> {
    match call.query.given("platform") {
        Some(json) if json.starts_with('{') => Ok(parse_platforms(json)?.into_iter().next()),
        _ => platform(&call.query),
    }
}

async fn history(call: Call) -> Answer {
    let platform = if call.since(48) { platform_json(&call)? } else { None };
    let steps = call.engine.images().history(&call.name, platform).await?;
    Ok(response::json(&steps.into_iter().map(convert::history).collect::<Vec<_>>()))
}

async fn tag(call: Call) -> Answer {
    let repository = Reference::parse_normalized(call.query.text("repo"))?.repository();
    let target = repository.with_tag(call.query.given("tag").unwrap_or("latest"))?;
    call.engine.images().tag(&call.name, target).await?;
    Ok(response::empty(StatusCode::CREATED))
}

async fn remove(call: Call) -> Answer {
    if call.name.trim().is_empty() {
        return Err(Failure::invalid("image name cannot be blank"));
    }
    let platforms = if call.since(50) { platforms(&call, "platforms")? } else { Vec::new() };
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    let images = call.engine.images();
    let steps = match platforms.is_empty() {
        true => images.remove(&call.name, force, no_prune).await?,
        false => images.remove_platforms(&call.name, platforms, force, no_prune).await?,
    };
    Ok(response::json(&steps.into_iter().map(convert::deleted).collect::<Vec<_>>()))
}

async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    query::only(&filters, &["dangling", "label", "label!", "until"])?;
    let all = query::boolean(&filters, "dangling")? == Some(false);
    let filters = convert::filters(filters, all, SystemTime::now())?;
    let (steps, space_reclaimed) = call.engine.images().prune(all, filters).await?;
    let steps: Vec<_> = steps.into_iter().map(convert::deleted).collect();
    Ok(response::json(&ImagesPruned { images_deleted: Some(steps).filter(|s| !s.is_empty()), space_reclaimed }))
}

/// Pulls (`fromImage`) or imports (`fromSrc`).
async fn create(call: Call) -> Answer {
    let platform = platform(&call.query)?;
    if let Some(image) = call.query.given("fromImage") {
        let reference = pulled(image, call.query.text("tag"))?;
        let operation = call.engine.images().pull(reference, platform, credentials(&call));
        return answer(operation).await;
    }
    let source = call.query.text("fromSrc");
    let address = match source {
        "" => return Err(Failure::invalid("one of fromImage and fromSrc is needed")),
        "-" => None,
        url => Some(WebAddress::parse(url).map_err(corten_images::Error::from)?),
    };
    let name = call.query.given("repo").map(Reference::parse_normalized).transpose()?;
    let tagged = |name: Reference| match call.query.given("tag") {
        Some(tag) => name.with_tag(tag),
        None => Ok(name.with_default_tag()),
    };
    // A password within a URL stays out of the image.
    let origin = address.as_ref().filter(|_| source.contains('@')).map_or(source.to_owned(), WebAddress::to_string);
    let options = ImportOptions {
        name: name.map(tagged).transpose()?,
        changes: call.query.all("changes"),
        message: call.query.given("message").map_or_else(|| format!("Imported from {origin}"), str::to_owned),
        platform,
    };
    let images = call.engine.images();
    let operation = match address {
        Some(address) => images.import_from(address, options),
        None => images.import(crate::upload::body(call.request.into_body()), options),
    };
    answer(operation).await
}

/// Pushes one tag, or without one all.
async fn push(mut call: Call) -> Answer {
    let header = call.header("x-registry-auth").to_owned();
    let credentials = if header.is_empty() {
        // As the first versions of the API had it.
        let body = call.bytes().await?;
        Credentials::from_json(&body).map_err(|error| {
            Failure::invalid(format!(
                "bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: {error}"
            ))
        })?
    } else {
        credentials(&call)
    };
    let reference = match call.query.given("tag") {
        Some(tag) => pulled(&call.name, tag)?,
        None => Reference::parse_normalized(&call.name)?,
    };
    let platform = if call.since(46) { platform_json(&call)? } else { None };
    answer(call.engine.images().push(reference, platform, credentials)).await
}

/// What the name's registry has of it.
async fn inspect_remote(call: Call) -> Answer {
    let reference = Reference::parse_normalized(&call.name)?;
    let remote = call.engine.images().inspect_remote(reference, credentials(&call)).await?;
    let descriptor = convert::descriptor(&remote.descriptor);
    Ok(response::json(&DistributionInspect { descriptor, platforms: remote.platforms }))
}

/// The number of results where none is asked for.
const SEARCH_LIMIT: i64 = 25;

async fn search(call: Call) -> Answer {
    let limit = call.query.number("limit")?.filter(|&limit| limit != 0).unwrap_or(SEARCH_LIMIT);
    if !(1..=100).contains(&limit) {
        return Err(Failure::invalid(format!("limit {limit} is outside the range of [1, 100]")));
    }
    let filters = call.query.filters()?;
    query::only(&filters, &["is-automated", "is-official", "stars"])?;
    let official = query::boolean(&filters, "is-official")?;
    let automated = query::boolean(&filters, "is-automated")?;
    let mut stars = 0;
    for text in filters.get("stars").into_iter().flatten() {
        let number: i64 = text.parse().map_err(|_| Failure::invalid(format!("invalid filter 'stars=[{text}]'")))?;
        stars = stars.max(number);
    }
    let limit = u32::try_from(limit).unwrap_or_default();
    let found = call.engine.images().search(call.query.text("term"), limit, credentials(&call)).await?;
    let fits = |found: &corten_images::Found| {
        official.is_none_or(|wanted| wanted == found.is_official)
            && automated.is_none_or(|wanted| wanted == found.is_automated)
            && found.star_count >= stars
    };
    let results = found.into_iter().filter(fits).map(|found| SearchResult {
        star_count: found.star_count,
        is_official: found.is_official,
        name: found.name,
        is_automated: found.is_automated,
        description: found.description,
    });
    Ok(response::json(&results.collect::<Vec<_>>()))
}

/// Whose account to use. What can't be read means nobody's, as with Docker.
fn credentials(call: &Call) -> Option<Credentials> {
    Credentials::from_registry_auth(call.header("x-registry-auth")).unwrap_or_default()
}

/// The image to pull or push: `tag` is a tag or a digest; without, all tags are meant.
fn pulled(image: &str, tag: &str) -> Result<Reference, Failure> {
    // Old clients end the name with a colon when they mean all tags.
    let reference = Reference::parse_normalized(image.strip_suffix(':').unwrap_or(image))?;
    if tag.is_empty() {
        return Ok(reference);
    }
    match corten_base::Digest::parse(tag) {
        Ok(digest) => Ok(reference.repository().with_digest(digest)),
        Err(_) => Ok(reference.repository().with_tag(tag)?),
    }
}

async fn load(call: Call) -> Answer {
    let platforms = platforms(&call, "platform")?;
    answer(call.engine.images().load(crate::upload::body(call.request.into_body()), platforms)).await
}

/// Tells an operation's steps as they happen. What fails before the first step is an ordinary error; later failures
/// can only be told in the stream.
async fn answer(mut operation: Operation) -> Result<Response, Failure> {
    let mut step = match operation.next().await {
        Some(Err(error)) => return Err(error.into()),
        first => first,
    };
    Ok(response::pieces("application/json", |sender| async move {
        while let Some(told) = step {
            let message = match told {
                Ok(progress) => progress::message(progress),
                Err(error) => JsonMessage::error(error.message()),
            };
            // Go's progress writer ends its lines so.
            let mut line = serde_json::to_vec(&message).map_err(|_| Gone)?;
            line.extend(b"\r\n");
            sender.send(line).await?;
            step = operation.next().await;
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_pull() {
        let check = |image: &str, tag: &str| pulled(image, tag).map(|r| r.familiar()).map_err(|f| f.message);
        let digest = corten_base::Digest::sha256(b"");
        assert_eq!(check("busybox", "").unwrap(), "busybox");
        assert_eq!(check("busybox:", "").unwrap(), "busybox");
        assert_eq!(check("busybox", "1").unwrap(), "busybox:1");
        assert_eq!(check("a/b:2", "").unwrap(), "a/b:2");
        assert_eq!(check("busybox", digest.as_str()).unwrap(), format!("busybox@{digest}"));
        assert!(check("Foo", "").unwrap_err().contains("must be lowercase"));
        assert_eq!(check("busybox", "a b").unwrap_err(), "invalid tag format");
    }
}
