//! Sessions that move: to another program, and out of a backup. Between the store, which has the records, and the client,
//! which knows what they are. Blocking; no engine runs the sessions meanwhile.

use std::path::Path;

use runner_client::export::{Export, Named};
use runner_client::restored::Owner;
use runner_client::{StoredRecord, export, restored};
use runner_store::{Credentials, Exported, Restored, Store, StoreError, StoredRow};

use crate::entropy;

/// A session's device and its records in the form of Baileys' files.
///
/// # Errors
/// `unknown_session`, `not_linked`, `quarantined`, and those of the disk.
pub fn export_session(
    store: &Store,
    session_id: &str,
    now_unix_ms: u64,
) -> Result<(Exported, Export), StoreError> {
    let mut device = store.export(session_id)?;
    let records = named(std::mem::take(&mut device.records));
    let mut export = export::export(records, now_unix_ms, &mut entropy::system());
    export.left_out.append(&mut device.damaged);
    Ok((device, export))
}

/// A store at `path` made of the backup in `file`; no key that the device may have used since is used again.
///
/// # Errors
/// As [`runner_store::restore`].
pub fn restore_backup(
    path: &Path,
    file: &Path,
    replace: bool,
    now_unix_ms: u64,
) -> Result<Restored, StoreError> {
    runner_store::restore(path, file, replace, &mut |credentials: &Credentials, rows| {
        let owner = Owner {
            jid: credentials.jid.clone(),
            lid: credentials.lid.clone(),
            signed_pre_key_id: credentials.signed_pre_key_id,
        };
        let changes = restored::restored(&owner, named(rows), now_unix_ms);
        let change =
            |(kind, id, value): restored::Change| (kind, id, value.map(|value| value.into_bytes().into()));
        changes.into_iter().map(change).collect()
    })
}

fn named(rows: Vec<StoredRow>) -> Vec<Named> {
    let named = rows.into_iter().map(|StoredRow { kind, id, record }| {
        let value = record.value.expose().to_vec().into();
        (kind, id, StoredRecord { value, is_imported: record.is_imported })
    });
    named.collect()
}
