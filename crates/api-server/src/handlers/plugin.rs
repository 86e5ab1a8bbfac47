//! Plugins: none yet, so the list is empty.

use crate::call::{Answer, Call};
use crate::response;
use crate::router::{Route, route};

pub(crate) const ROUTES: &[Route] = &[
    route!(GET "/plugins" PluginList => list),
    route!(GET "/plugins/privileges" GetPluginPrivileges => missing),
    route!(GET "/plugins/{name}/json" PluginInspect => missing),
    route!(POST "/plugins/pull" PluginPull => missing),
    route!(POST "/plugins/create" PluginCreate => missing),
    route!(POST "/plugins/{name}/disable" PluginDisable => missing),
    route!(POST "/plugins/{name}/enable" PluginEnable => missing),
    route!(POST "/plugins/{name}/push" PluginPush => missing),
    route!(POST "/plugins/{name}/set" PluginSet => missing),
    route!(POST "/plugins/{name}/upgrade" PluginUpgrade => missing),
    route!(DELETE "/plugins/{name}" PluginDelete => missing),
];

async fn list(_call: Call) -> Answer {
    Ok(response::json(&[(); 0]))
}
