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
use corten_api_types::{ImagesPruned, JsonMessage};
use corten_base::Reference;
use corten_engine::Operation;
use corten_images::{Credentials, ImportOptions};
use hyper::StatusCode;
use std::time::SystemTime;

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/images/json" ImageList => list),
    route!(GET "/images/search" ImageSearch => missing),
    route!(GET "/images/get" ImageGetAll => missing),
    route!(GET "/images/{name}/json" ImageInspect => inspect),
    route!(GET "/images/{name}/history" ImageHistory => history),
    route!(GET "/images/{name}/attestations" ImageAttestations => missing),
    route!(GET "/images/{name}/get" ImageGet => missing),
    route!(POST "/images/create" ImageCreate => create),
    route!(POST "/images/load" ImageLoad => load),
    route!(POST "/images/prune" ImagePrune => prune),
    route!(POST "/images/{name}/tag" ImageTag => tag),
    route!(POST "/images/{name}/push" ImagePush => missing),
    route!(DELETE "/images/{name}" ImageDelete => remove),
    route!(GET "/distribution/{name}/json" DistributionInspect => missing),
    route!(POST "/build" ImageBuild => missing),
    route!(POST "/build/prune" BuildPrune => missing),
    route!(POST "/commit" ImageCommit => missing),
];

async fn list(call: Call) -> Answer {
    let filters = convert::filters(call.query.filters()?, call.query.flag("all"), SystemTime::now())?;
    let images = call.engine.images().list(filters).await?;
    let mut lines = Vec::with_capacity(images.len());
    for image in &images {
        let mut line = convert::summary(image);
        if !call.query.flag("manifests") {
            line.descriptor = None;
        }
        lines.push(line);
    }
    response::adapted_list(Shape::ImageSummary, call.version, &lines)
}

async fn inspect(call: Call) -> Answer {
    let image = call.engine.images().resolve(&call.name, platform_json(&call)?).await?;
    let layers = call.engine.images().layer_directories(&image).await?;
    response::adapted(Shape::ImageInspect, call.version, &convert::inspect(&image, &layers))
}

/// `platform` as JSON, which newer operations take, or as the older text.
fn platform_json(call: &Call) -> Result<Option<corten_base::Platform>, Failure> {
    match call.query.given("platform") {
        Some(json) if json.starts_with('{') => match serde_json::from_str::<corten_base::Platform>(json) {
            Ok(given) => Ok(Some(corten_base::Platform::new(&given.os, &given.architecture, given.variant.as_deref()))),
            Err(error) => Err(Failure::invalid(format!("failed to parse platform: {error}"))),
        },
        _ => platform(&call.query),
    }
}

async fn history(call: Call) -> Answer {
    let steps = call.engine.images().history(&call.name).await?;
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
    let (force, no_prune) = (call.query.flag("force"), call.query.flag("noprune"));
    let steps = call.engine.images().remove(&call.name, force, no_prune).await?;
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
        let credentials = Credentials::from_registry_auth(call.header("x-registry-auth"))
            .map_err(|error| Failure::invalid(error.to_string()))?;
        let operation = call.engine.images().pull(reference, platform, credentials);
        return answer(operation).await;
    }
    match call.query.text("fromSrc") {
        "" => return Err(Failure::invalid("one of fromImage and fromSrc is needed")),
        "-" => {}
        url => return Err(Failure::unsupported(format!("importing from the URL {url:?}"))),
    }
    let name = call.query.given("repo").map(Reference::parse_normalized).transpose()?;
    let tagged = |name: Reference| match call.query.given("tag") {
        Some(tag) => name.with_tag(tag),
        None => Ok(name.with_default_tag()),
    };
    let options = ImportOptions {
        name: name.map(tagged).transpose()?,
        changes: call.query.all("changes"),
        message: call.query.given("message").unwrap_or("Imported from -").to_owned(),
        platform,
    };
    answer(call.engine.images().import(crate::upload::body(call.request.into_body()), options)).await
}

/// The image to pull: `tag` is a tag or a digest.
fn pulled(image: &str, tag: &str) -> Result<Reference, Failure> {
    let reference = Reference::parse_normalized(image)?;
    if tag.is_empty() {
        return Ok(reference.with_default_tag());
    }
    match corten_base::Digest::parse(tag) {
        Ok(digest) => Ok(reference.repository().with_digest(digest)),
        Err(_) => Ok(reference.repository().with_tag(tag)?),
    }
}

async fn load(call: Call) -> Answer {
    if call.query.given("platform").is_some() {
        return Err(Failure::unsupported("loading one platform of several"));
    }
    answer(call.engine.images().load(crate::upload::body(call.request.into_body()))).await
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
        assert_eq!(check("busybox", "").unwrap(), "busybox:latest");
        assert_eq!(check("busybox", "1").unwrap(), "busybox:1");
        assert_eq!(check("a/b:2", "").unwrap(), "a/b:2");
        assert_eq!(check("busybox", digest.as_str()).unwrap(), format!("busybox@{digest}"));
        assert!(check("Foo", "").unwrap_err().contains("must be lowercase"));
        assert_eq!(check("busybox", "a b").unwrap_err(), "invalid tag format");
    }
}
