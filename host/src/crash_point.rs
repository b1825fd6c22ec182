//! Crash points: a place after each step at which a crash might leave something half done. A test
//! names one in `RETELL_CRASH_POINT`, and the process dies there as if it had been killed. They are
//! there in builds with debug assertions only; in a release, reaching one does nothing.

/// Declares the points, with their names in the environment and a list of all.
macro_rules! points {
    ($($(#[doc = $doc:literal])* $point:ident => $name:literal,)+) => {
        /// Where a process can be told to die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CrashPoint {
            $($(#[doc = $doc])* $point,)+
        }

        impl CrashPoint {
            /// In the order in which a version's life comes past them.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// As `RETELL_CRASH_POINT` names it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }
        }
    };
}

points! {
    /// Events are written, and not committed.
    LogWritten => "log-written",
    /// Events are committed, and nobody was told.
    LogCommitted => "log-committed",
    /// The catalog knows the version; nothing else does.
    VersionRegistered => "version-registered",
    /// A read model was made, and holds nothing.
    ReadModelMade => "read-model-made",
    /// A batch was read, and not applied.
    BatchRead => "batch-read",
    /// A batch was applied, and not flushed.
    BatchApplied => "batch-applied",
    /// A flush's rows are written, and not committed.
    RowsWritten => "rows-written",
    /// A flush is committed.
    FlushCommitted => "flush-committed",
    /// The next file of a read model is laid out, under a name of its own.
    FileLaidOut => "file-laid-out",
    /// It has taken the place of the one before.
    FileInPlace => "file-in-place",
    /// Entries of the journal are written, and not committed.
    JournalWritten => "journal-written",
    /// Indexes are built and the module's SQL has run; not committed.
    IndexesBuilt => "indexes-built",
    /// The read model is ready, and the catalog does not know.
    ReadModelReady => "read-model-ready",
    /// The catalog knows that the version is ready; names do not follow yet.
    StateChanged => "state-changed",
    /// Before a switch; those that it displaces stand still.
    Fenced => "fenced",
    /// A switch is written, and not committed.
    SwitchWritten => "switch-written",
    /// A switch is committed; names do not follow yet.
    Switched => "switched",
    /// Names follow the catalog; read models do not know their roles.
    NamesPublished => "names-published",
    /// Read models know their roles; what is discarded is still there.
    RolesTold => "roles-told",
    /// A build anew has taken the place of the one before; names do not follow yet.
    SuccessorSwapped => "successor-swapped",
    /// The version is retired; its read model is still there.
    VersionRetired => "version-retired",
    /// A read model is dropped, and the catalog does not know.
    ReadModelDropped => "read-model-dropped",
}

/// Dies here if the environment says so.
#[inline]
pub(crate) fn reach(point: CrashPoint) {
    #[cfg(debug_assertions)]
    if crate::config::crash_point() == Some(point.name()) {
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = point;
}
