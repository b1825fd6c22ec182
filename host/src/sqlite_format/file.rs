//! The files that SQLite has open for a connection, through its own handles. To open one a second time
//! is no way: when a process closes a file, the locks go that it has on the file by other handles.

use std::ffi::{c_int, c_void};
use std::ptr;

use rusqlite::{Connection, ffi};

/// Of the index beside a WAL: its header, twice.
pub(super) const SHARED_INDEX_BYTES: usize = 96;
/// SQLite maps it in regions of so many bytes.
const SHARED_INDEX_REGION_BYTES: c_int = 32 << 10;

/// A file, as long as nobody closes it. The database file is open as long as the connection; the
/// journal may be closed when a transaction ends.
pub(crate) struct OpenFile<'c> {
    connection: &'c Connection,
    which: c_int,
}

impl<'c> OpenFile<'c> {
    pub(crate) fn database(connection: &'c Connection) -> Self {
        Self {
            connection,
            which: ffi::SQLITE_FCNTL_FILE_POINTER,
        }
    }

    /// In a transaction of WAL mode: the WAL.
    pub(super) fn journal(connection: &'c Connection) -> Self {
        Self {
            connection,
            which: ffi::SQLITE_FCNTL_JOURNAL_POINTER,
        }
    }

    /// In bytes.
    pub(super) fn size(&self) -> rusqlite::Result<u64> {
        let mut size = 0;
        self.call(|file, methods| {
            let size_of = methods.xFileSize?;
            // SAFETY: `call` gives an open file and its own methods.
            #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
            Some(unsafe { size_of(file, &raw mut size) })
        })?;
        Ok(u64::try_from(size).unwrap_or_default())
    }

    /// Fills the buffer with what lies at this place; `false` where the file has less than that.
    pub(super) fn read(&self, at: u64, bytes: &mut [u8]) -> rusqlite::Result<bool> {
        let (Ok(at), Ok(len)) = (i64::try_from(at), c_int::try_from(bytes.len())) else {
            return Ok(false);
        };
        let read = self.call(|file, methods| {
            let read = methods.xRead?;
            // SAFETY: `call` gives an open file and its own methods, and the buffer has as many
            // bytes as it is said to have.
            #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
            Some(unsafe { read(file, bytes.as_mut_ptr().cast(), len, at) })
        });
        match read {
            Err(rusqlite::Error::SqliteFailure(error, _))
                if error.extended_code == ffi::SQLITE_IOERR_SHORT_READ =>
            {
                Ok(false)
            }
            read => read.map(|()| true),
        }
    }

    /// The beginning of the index that all connections to a WAL share, in a transaction of WAL mode; none
    /// where there is none.
    pub(super) fn shared_index(&self) -> Option<[u8; SHARED_INDEX_BYTES]> {
        let mut index: *mut c_void = ptr::null_mut();
        self.call(|file, methods| {
            let map = methods.xShmMap.filter(|_| methods.iVersion >= 2)?;
            // SAFETY: `call` gives an open file and its own methods. Nothing is made: in such a
            // transaction the index is mapped already.
            #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
            Some(unsafe { map(file, 0, SHARED_INDEX_REGION_BYTES, 0, &raw mut index) })
        })
        .ok()?;
        if index.is_null() {
            return None;
        }
        let mut bytes = [0; SHARED_INDEX_BYTES];
        for (at, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: SQLite keeps the region mapped as long as the connection has the database open.
            // Other processes may write to it at any time, so each byte is read for itself.
            #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
            let read = unsafe { index.cast::<u8>().add(at).read_volatile() };
            *byte = read;
        }
        Some(bytes)
    }

    /// Whether the path leads to another file by now, or to none.
    pub(crate) fn has_moved(connection: &Connection) -> rusqlite::Result<bool> {
        let mut moved: c_int = 0;
        // SAFETY: the connection is open and used by this thread alone (it is not `Sync`), and SQLite
        // fills in a number.
        #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
        let code = unsafe {
            let handle = connection.handle();
            let asked = ffi::SQLITE_FCNTL_HAS_MOVED;
            ffi::sqlite3_file_control(handle, c"main".as_ptr(), asked, (&raw mut moved).cast())
        };
        match code {
            ffi::SQLITE_OK => Ok(moved != 0),
            code => Err(failure(code)),
        }
    }

    /// Syncs it to the disk.
    pub(crate) fn sync(&self) -> rusqlite::Result<()> {
        self.call(|file, methods| {
            let sync = methods.xSync?;
            // SAFETY: `call` gives an open file and its own methods.
            #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
            Some(unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL) })
        })
    }

    /// Asks for the file anew each time, so that it is never one that was closed.
    fn call(
        &self,
        method: impl FnOnce(*mut ffi::sqlite3_file, &ffi::sqlite3_io_methods) -> Option<c_int>,
    ) -> rusqlite::Result<()> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        // SAFETY: the connection is open and used by this thread alone (it is not `Sync`). SQLite
        // fills in a pointer to the file it has open, which stays so until SQLite is called again; of
        // a file that is not open it has a null pointer, or one without methods.
        #[allow(unsafe_code, reason = "SQLite has no SQL for it")]
        let (found, methods) = unsafe {
            let handle = self.connection.handle();
            let pointer = (&raw mut file).cast();
            let found = ffi::sqlite3_file_control(handle, c"main".as_ptr(), self.which, pointer);
            let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
            (found, methods)
        };
        match methods.and_then(|methods| method(file, methods)) {
            Some(ffi::SQLITE_OK) if found == ffi::SQLITE_OK => Ok(()),
            Some(code) => Err(failure(code.max(found))),
            None => Err(failure(ffi::SQLITE_CANTOPEN)),
        }
    }
}

fn failure(code: c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}
