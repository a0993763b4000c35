//! The far link with real programs on hosts of their own: what happens to it, and what that costs
//! those who talk over it.

use std::time::Duration;

use antipode_tests::far::{Far, Setting};
use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::require::require;
use antipode_tests::wan::Way;
use anyhow::ensure;

const SECOND: Duration = Duration::from_secs(1);
/// What a busy machine adds to any promise.
const SLACK: Duration = Duration::from_millis(500);

/// A world over the links of a setting, or none where there is no root.
async fn far(setting: Setting) -> anyhow::Result<Option<Far>> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(None);
    }
    Far::set(setting).await.map(Some)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_five_seconds() -> anyhow::Result<()> {
    let Some(far) = far(Setting::default()).await? else { return Ok(()) };
    far.change(None, Way::Both, r#"{"cut": true}"#)?;
    tokio::time::sleep(5 * SECOND).await;
    far.change(None, Way::Both, r#"{"cut": false}"#)?;
    let took = far.flow_within(10 * SECOND).await?;
    ensure!(took < SECOND + SLACK, "{took:?} after a cut");
    far.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translator_that_forgets() -> anyhow::Result<()> {
    let Some(far) = far(Setting::default()).await? else { return Ok(()) };
    for _ in 0..3 {
        far.links[0].rebind();
        let took = far.flow_within(10 * SECOND).await?;
        ensure!(took < SECOND + SLACK, "{took:?} after other ports");
    }
    far.untouched().await
}
