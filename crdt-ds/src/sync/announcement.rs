use bytes::Bytes;
use cid::Cid;

use crate::block::multiformats::{CID_LEN, block_cid, cid_bytes, cid_prefix, cidv0_as_v1};
use crate::block::protobuf::{self, Fields, Value};
use crate::block::{BlockError, DagName};

// `CRDTBroadcast { repeated Head Heads = 1; }`
const HEADS: u8 = 1;
// `Head { bytes Cid = 1; string DagName = 2; }`, and ours, which Go skips: `bytes Block = 15;`
const CID: u8 = 1;
const DAG_NAME: u8 = 2;
const BLOCK: u8 = 15;

/// Heads that a replica tells the others of: go-ds-crdt's `CRDTBroadcast`.
///
/// ```
/// use crdt_ds::block::{DagName, Delta, dag_pb};
/// use crdt_ds::sync::{AnnouncedHead, Announcement, AnnouncementLimits};
///
/// let block = dag_pb::encode(&[], &Delta { priority: 1, ..Delta::default() })?;
/// let head = AnnouncedHead {
///     cid: *block.cid(),
///     dag_name: DagName::new("likes"),
///     block: Some(block.bytes().clone()),
/// };
/// let announcement = Announcement { heads: vec![head] };
/// let limits = AnnouncementLimits::default();
/// for payload in announcement.encode(&limits) {
///     assert_eq!(Announcement::decode(&payload, &limits)?, announcement);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The heads, in the order of the payload.
    pub heads: Vec<AnnouncedHead>,
}

/// A head that somebody announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedHead {
    /// The head: a CID that a block of ours can have.
    pub cid: Cid,
    /// The DAG that it is said to belong to. The block itself decides.
    pub dag_name: DagName,
    /// The block, where it rode along: bytes that nobody has checked yet.
    pub block: Option<Bytes>,
}

/// How large an announcement may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnouncementLimits {
    /// The most bytes of a payload, made or taken. A head takes at least 40, so this bounds the heads
    /// of a payload too. 60 KiB by default, which with its envelope is within gossipsub's 64 KiB.
    pub max_payload_bytes: usize,
    /// The most bytes of a block that rides along with its head: 16 KiB by default. Every peer gets an
    /// announcement several times over, so larger blocks are better fetched.
    pub max_block_bytes: usize,
}

impl Default for AnnouncementLimits {
    fn default() -> Self {
        Self {
            max_payload_bytes: 60 * 1024,
            max_block_bytes: 16 * 1024,
        }
    }
}

/// Why a payload is no announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// Above [`AnnouncementLimits::max_payload_bytes`].
    #[error("an announcement of {size} bytes is above the limit of {limit}")]
    TooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// It is neither a `CRDTBroadcast` nor a binary CID.
    #[error("an announcement is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It announces a CID that no block of ours can have.
    #[error("an announced CID ({}) names no block of ours", data_encoding::HEXLOWER.encode(cid))]
    ForeignCid {
        /// The CID in binary.
        cid: Bytes,
    },
}

impl Announcement {
    /// Reads a payload: a `CRDTBroadcast`, or, from old peers, a bare binary CID, which is a head of
    /// the unnamed DAG. Unknown fields of a head are skipped. A CIDv0 stands for the DAG-PB block with
    /// its hash, as it does in go-ds-crdt.
    ///
    /// # Errors
    /// [`AnnouncementError`]. A payload is taken whole or not at all.
    pub fn decode(payload: &Bytes, limits: &AnnouncementLimits) -> Result<Self, AnnouncementError> {
        let (size, limit) = (payload.len(), limits.max_payload_bytes);
        if size > limit {
            return Err(AnnouncementError::TooLarge { size, limit });
        }
        // No broadcast reads as a CID: one version begins a field 0, which does not exist, and the
        // other a field 2, which marks the old form.
        if cid_prefix(payload).is_some() {
            let cid = head_cid(payload, payload)?;
            return Ok(Self {
                heads: vec![AnnouncedHead {
                    cid,
                    dag_name: DagName::default(),
                    block: None,
                }],
            });
        }
        let mut heads = Vec::new();
        for field in Fields::of(payload) {
            let field = field.map_err(malformed)?;
            let Value::Bytes(head) = field.value else {
                return Err(malformed(NEITHER));
            };
            if field.number != u64::from(HEADS) {
                return Err(malformed(NEITHER));
            }
            heads.push(AnnouncedHead::decode(head, payload)?);
        }
        Ok(Self { heads })
    }

    /// The payloads that announce these heads, each within the limits; none for no heads. A block
    /// rides along where it fits. A head that has no place even alone, for its CID or the length of
    /// its DAG name, is left out, with a warning in the log.
    pub fn encode(&self, limits: &AnnouncementLimits) -> Vec<Bytes> {
        let mut payloads = Vec::new();
        let mut payload = Vec::new();
        for head in &self.heads {
            let field = match head.encode(limits) {
                Ok(field) if field.len() <= limits.max_payload_bytes => field,
                Ok(field) => {
                    let (size, cid) = (field.len(), head.cid);
                    tracing::warn!(%cid, size, "a head is too large to be announced");
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "a head cannot be announced");
                    continue;
                }
            };
            if !payload.is_empty() && payload.len() + field.len() > limits.max_payload_bytes {
                payloads.push(std::mem::take(&mut payload).into());
            }
            payload.extend_from_slice(&field);
        }
        if !payload.is_empty() {
            payloads.push(payload.into());
        }
        payloads
    }
}

impl AnnouncedHead {
    fn decode(head: &[u8], payload: &Bytes) -> Result<Self, AnnouncementError> {
        let mut cid: &[u8] = &[];
        let mut dag_name = "";
        let mut block = None;
        for field in Fields::of(head) {
            let field = field.map_err(malformed)?;
            match (u8::try_from(field.number), field.value) {
                (Ok(CID), Value::Bytes(bytes)) => cid = bytes,
                (Ok(DAG_NAME), Value::Bytes(bytes)) => {
                    dag_name = str::from_utf8(bytes)
                        .map_err(|_| malformed("the DAG name of a head is not UTF-8"))?;
                }
                (Ok(BLOCK), Value::Bytes(bytes)) => block = Some(bytes),
                _ => {}
            }
        }
        Ok(Self {
            cid: head_cid(cid, payload)?,
            dag_name: DagName::new(dag_name),
            block: block.map(|bytes| Bytes::slice_ref(payload, bytes)),
        })
    }

    /// The field of this head, with its block if that is within the limits.
    fn encode(&self, limits: &AnnouncementLimits) -> Result<Vec<u8>, BlockError> {
        let cid = cid_bytes(&self.cid)?;
        let name = self.dag_name.as_str();
        let bare_len = protobuf::bytes_field_len(CID_LEN) + protobuf::scalar_field_len(name.len());
        let len_with = |block: &Bytes| bare_len + protobuf::bytes_field_len(block.len());
        let block = self.block.as_ref().filter(|block| {
            block.len() <= limits.max_block_bytes
                && protobuf::bytes_field_len(len_with(block)) <= limits.max_payload_bytes
        });
        let len = block.map_or(bare_len, len_with);

        let mut out = Vec::with_capacity(protobuf::bytes_field_len(len));
        protobuf::write_bytes_head(&mut out, HEADS, len);
        protobuf::write_bytes_field(&mut out, CID, &cid);
        protobuf::write_scalar_field(&mut out, DAG_NAME, name.as_bytes());
        if let Some(block) = block {
            protobuf::write_bytes_field(&mut out, BLOCK, block);
        }
        Ok(out)
    }
}

/// The block that an announced CID, all of `bytes`, names.
fn head_cid(bytes: &[u8], payload: &Bytes) -> Result<Cid, AnnouncementError> {
    if let Some(cid) = block_cid(bytes).or_else(|| cidv0_as_v1(bytes)) {
        return Ok(cid);
    }
    if cid_prefix(bytes).is_some_and(|cid| cid.len() == bytes.len()) {
        Err(AnnouncementError::ForeignCid {
            cid: Bytes::slice_ref(payload, bytes),
        })
    } else {
        Err(malformed("what a head announces is no CID"))
    }
}

const NEITHER: &str = "it is neither a CRDTBroadcast nor a binary CID";

fn malformed(reason: &'static str) -> AnnouncementError {
    AnnouncementError::Malformed { reason }
}
