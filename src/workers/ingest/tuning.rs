//! What the worker's patience is made of. One file, so that the limits can be read beside each
//! other.

use std::time::Duration;

/// Attempts at a row, alone, after which it is given up.
pub const ATTEMPTS: i32 = 3;
/// Seconds for which something is put off the first time, and at most; doubled each time. A relation
/// that was locked for a long time is not taken up later than the longest pause after that.
pub const FIRST_PAUSE: u32 = 1;
pub const LONGEST_PAUSE: u32 = 60;

/// The most rows in one step.
pub const MOST_ROWS: usize = 256;
/// Rows of a relation's first step: one request to the encoder.
pub const FIRST_ROWS: usize = 32;
/// Steps are kept below this by the number of their rows, so that turns come round and nobody waits
/// for the database.
pub const LONG_STEP: Duration = Duration::from_secs(1);

/// What finding rows, and writing them, may take: each runs code of the table's owner.
pub const CODE_LIMIT: Duration = Duration::from_secs(5);
/// What the encoder may take. It is the encoder's time and not the owner's, and it may have to load a
/// model first.
pub const ENCODE_LIMIT: Duration = Duration::from_secs(30);
/// What keeping the queue may take.
pub const QUEUE_LIMIT: Duration = Duration::from_secs(10);

/// How long a worker stays when there is nothing to do.
pub const LINGER: Duration = Duration::from_secs(2);
/// How often it looks at a queue with nothing in it that is due.
pub const LOOK: Duration = Duration::from_millis(50);
/// The same after [`LINGER`], while entries wait or a transaction that has queued rows goes on.
pub const LATER: Duration = Duration::from_millis(200);
/// The longest pause while the encoder is away, in seconds.
pub const ENCODER_PAUSE: Duration = Duration::from_secs(15);
