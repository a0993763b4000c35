//! The gateway's memory on disk: tokens and members, in one redb file.
//!
//! Every change is one transaction that is on the disk before it is answered, so a crash leaves
//! either all of it or nothing.

mod record;
mod refused;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};
use sha2::{Digest, Sha256};

pub use record::{MemberRecord, TokenRecord};
pub use refused::EnrolError;

use crate::member::{Profile, Role};

const FILE: &str = "gateway.redb";
/// What this program writes; a file of another format is refused, never guessed at.
const FORMAT: u64 = 1;
/// Most tokens kept; ended ones are dropped when a new one is made.
const TOKENS_MAX: u64 = 10_000;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const TOKENS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("tokens");
const MEMBERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("members");

/// The store. Its calls wait for the disk: from async code they run on a blocking thread.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another gateway has it open.
    #[error("{path} is in use: another gateway runs with this state_dir")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It can't be opened.
    #[error("{path} can't be opened: check state_dir and its permissions")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// A newer program wrote it.
    #[error(
        "{path} has format {found}, this program reads {FORMAT}: use the program that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Reading or writing went wrong.
    #[error("the store can't be read or written: check that the disk has room")]
    Access(#[source] Box<redb::Error>),
    /// Somebody makes tokens and uses none.
    #[error(
        "{TOKENS_MAX} join tokens are open: wait for some to expire, or give them a shorter --ttl"
    )]
    TooManyTokens,
    /// A record makes no sense.
    #[error("a record of the store is broken: restore gateway.redb from a backup")]
    Record(#[source] serde_json::Error),
}

/// The hash under which a token's secret is kept. Secrets have 256 random bits, so a plain hash
/// keeps them, and looking one up by its hash leaks no timing of the secret.
#[must_use]
pub fn token_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Store {
    /// Opens the store in `state_dir`, or makes it.
    ///
    /// # Errors
    ///
    /// If it is in use, of another format, or the disk refuses.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join(FILE);
        let database = Database::create(&path).map_err(|source| {
            let path = path.clone();
            if let DatabaseError::DatabaseAlreadyOpen = source {
                return StoreError::InUse { path };
            }
            StoreError::Open { path, source }
        })?;
        let store = Self { database };
        let found = store.write(|write| {
            let mut meta = write.open_table(META)?;
            let found = meta.get("format")?.map(|format| format.value());
            if found.is_none() {
                meta.insert("format", FORMAT)?;
            }
            drop(meta);
            write.open_table(TOKENS)?;
            write.open_table(MEMBERS)?;
            Ok(found.unwrap_or(FORMAT))
        })?;
        if found != FORMAT {
            return Err(StoreError::Format { path, found });
        }
        Ok(store)
    }

    /// Counts this start of the gateway, from 1. Leases given in a later start are higher.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn count_start(&self) -> Result<u64, StoreError> {
        self.write(|write| {
            let mut meta = write.open_table(META)?;
            let starts = meta.get("starts")?.map_or(0, |starts| starts.value()) + 1;
            meta.insert("starts", starts)?;
            Ok(starts)
        })
    }

    /// Every record, removed members too, in the order of their identities.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        let read = self.database.begin_read().map_err(access)?;
        let members = read.open_table(MEMBERS).map_err(access)?;
        members.iter().map_err(access)?.map(|row| decode(row.map_err(access)?.1.value())).collect()
    }

    /// Keeps a token under the hash of its secret, and drops those that ended.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn add_token(
        &self,
        hash: [u8; 32],
        token: &TokenRecord,
        now_unix_seconds: u64,
    ) -> Result<(), StoreError> {
        self.write(|write| {
            let mut tokens = write.open_table(TOKENS)?;
            let lives = |bytes: &[u8]| {
                decode::<TokenRecord>(bytes)
                    .is_ok_and(|t| t.expires_unix_seconds > now_unix_seconds)
            };
            tokens.retain(|_, bytes| lives(bytes))?;
            if tokens.len()? >= TOKENS_MAX {
                return Err(Failure(StoreError::TooManyTokens));
            }
            tokens.insert(hash, encode(token).as_slice())?;
            Ok(())
        })
    }

    /// Takes one use off a token and adds a member, both or neither.
    ///
    /// The token is checked first: without a good one nobody learns which names are taken. A name
    /// belongs to its member until that is removed, dead or not: a member that is only cut off for
    /// a while must find nobody in its place when it returns.
    ///
    /// # Errors
    ///
    /// Says what stands against it.
    pub fn enrol(
        &self,
        hash: [u8; 32],
        member: &MemberRecord,
        members_max: usize,
        now_unix_seconds: u64,
    ) -> Result<(), EnrolError> {
        let write = self.database.begin_write().map_err(access)?;
        check_enrolment(&write, hash, member, members_max, now_unix_seconds)?;
        put_member(&write, member)?;
        write.commit().map_err(access)?;
        Ok(())
    }

    /// Changes a member's record; `None` if there is no such member.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn update(
        &self,
        member_id: &str,
        change: impl FnOnce(&mut MemberRecord),
    ) -> Result<Option<MemberRecord>, StoreError> {
        let write = self.database.begin_write().map_err(access)?;
        let Some(mut member) = find_member(&write, member_id)? else {
            return Ok(None);
        };
        change(&mut member);
        put_member(&write, &member)?;
        write.commit().map_err(access)?;
        Ok(Some(member))
    }

    /// Keeps what a member said of itself.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn keep_profile(&self, member_id: &str, profile: &Profile) -> Result<(), StoreError> {
        self.update(member_id, |member| member.profile = Some(profile.clone())).map(drop)
    }

    /// Marks a member as removed. Records whose certificates have all ended are dropped.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn remove(&self, member_id: &str, now_unix_seconds: u64) -> Result<(), StoreError> {
        self.update(member_id, |member| {
            member.removed_unix_seconds.get_or_insert(now_unix_seconds);
        })?;
        self.write(|write| {
            let ended = |bytes: &[u8]| {
                decode::<MemberRecord>(bytes).is_ok_and(|member| {
                    !member.is_member() && member.certificate_ends_unix_seconds < now_unix_seconds
                })
            };
            write.open_table(MEMBERS)?.retain(|_, bytes| !ended(bytes))?;
            Ok(())
        })
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let write = self.database.begin_write().map_err(access)?;
        let value = change(&write).map_err(|failure| failure.0)?;
        write.commit().map_err(access)?;
        Ok(value)
    }
}

/// Lets `?` take redb's several error types inside a transaction.
struct Failure(StoreError);

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(access(error))
    }
}

fn check_enrolment(
    write: &WriteTransaction,
    hash: [u8; 32],
    newcomer: &MemberRecord,
    members_max: usize,
    now_unix_seconds: u64,
) -> Result<(), EnrolError> {
    take_token(write, hash, newcomer.role, now_unix_seconds)?;
    let members = write.open_table(MEMBERS).map_err(access)?;
    let mut count = 0;
    for row in members.iter().map_err(access)? {
        let member: MemberRecord = decode(row.map_err(access)?.1.value())?;
        if !member.is_member() {
            continue;
        }
        count += 1;
        if member.name == newcomer.name {
            return Err(EnrolError::Name { name: member.name });
        }
        if member.wireguard_public_key == newcomer.wireguard_public_key {
            return Err(EnrolError::Key { name: member.name });
        }
    }
    if count >= members_max { Err(EnrolError::Full { members_max }) } else { Ok(()) }
}

fn take_token(
    write: &WriteTransaction,
    hash: [u8; 32],
    role: Role,
    now_unix_seconds: u64,
) -> Result<(), EnrolError> {
    let mut tokens = write.open_table(TOKENS).map_err(access)?;
    let found = tokens.get(hash).map_err(access)?.map(|bytes| decode(bytes.value()));
    let mut token: TokenRecord = found.ok_or(EnrolError::TokenUnknown)??;
    if token.expires_unix_seconds <= now_unix_seconds {
        return Err(EnrolError::TokenExpired);
    }
    if token.uses_left == 0 {
        return Err(EnrolError::TokenUsed);
    }
    if token.role != role {
        return Err(EnrolError::TokenRole { token: token.role, asked: role });
    }
    token.uses_left -= 1;
    tokens.insert(hash, encode(&token).as_slice()).map_err(access)?;
    Ok(())
}

fn find_member(
    write: &WriteTransaction,
    member_id: &str,
) -> Result<Option<MemberRecord>, StoreError> {
    let members = write.open_table(MEMBERS).map_err(access)?;
    let found = members.get(member_id).map_err(access)?;
    found.map(|bytes| decode(bytes.value())).transpose()
}

fn put_member(write: &WriteTransaction, member: &MemberRecord) -> Result<(), StoreError> {
    let mut members = write.open_table(MEMBERS).map_err(access)?;
    members.insert(member.member_id.as_str(), encode(member).as_slice()).map_err(access)?;
    Ok(())
}

fn access(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Access(Box::new(error.into()))
}

fn encode(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have text keys and finite numbers")
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(StoreError::Record)
}
