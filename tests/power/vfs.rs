//! The layer between `SQLite` and the files: it notes what is written, synced and deleted, and fails when told to.
//!
//! Registered as the default of this test program, it hands everything on to the real layer, so that the store
//! under test works on real files, locks and shared memory. Only directories that are watched are noted. Nothing
//! is really synced: what would have been lost is worked out from the notes.

use crate::disk::{Disk, Op};
use rusqlite::ffi;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Notes what happens to databases in this directory from now on.
pub fn watch(directory: &Path) -> Arc<Mutex<Disk>> {
    register();
    let disk = Arc::new(Mutex::new(Disk::default()));
    let mut watched = lock(&WATCHED);
    watched.retain(|(_, disk)| Arc::strong_count(disk) > 1);
    watched.push((directory.to_owned(), Arc::clone(&disk)));
    disk
}

/// A test that has failed is no reason for the others to.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static WATCHED: Mutex<Vec<(PathBuf, Arc<Mutex<Disk>>)>> = Mutex::new(Vec::new());
static REAL: OnceLock<Real> = OnceLock::new();

struct Real(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite's own layer is never changed or freed, and may be used from every thread.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

/// An open file as `SQLite` holds it; the real layer's own follows it in memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    noted: *mut Noted,
}

/// What is known of a file that is watched.
struct Noted {
    disk: Arc<Mutex<Disk>>,
    number: usize,
}

fn register() {
    REAL.get_or_init(|| {
        // SAFETY: the real layer lives as long as the program, and so does the copy, which is leaked.
        unsafe {
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!real.is_null(), "there is a layer by default");
            let mut ours = *real;
            ours.pNext = std::ptr::null_mut();
            ours.zName = c"power".as_ptr();
            let own = c_int::try_from(size_of::<File>()).expect("a small number");
            ours.szOsFile = own + (*real).szOsFile;
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 1);
            assert_eq!(code, ffi::SQLITE_OK, "registered");
            Real(real)
        }
    });
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock_file),
    xUnlock: Some(unlock_file),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// The disk that this path lies on, if it is watched, and its name there.
fn find(path: *const c_char) -> Option<(Arc<Mutex<Disk>>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives a path that ends with NUL.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let path = Path::new(path);
    let parent = path.parent()?;
    let watched = lock(&WATCHED);
    let (_, disk) = watched.iter().rev().find(|(directory, _)| directory == parent)?;
    Some((Arc::clone(disk), path.file_name()?.to_str()?.to_owned()))
}

fn real_vfs() -> *mut ffi::sqlite3_vfs {
    REAL.get().expect("files are opened after it was registered").0
}

/// The real layer's part of a file.
///
/// # Safety
/// `file` was opened by [`open`], or is being opened.
unsafe fn inner(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: szOsFile has room for both.
    unsafe { file.cast::<u8>().add(size_of::<File>()).cast() }
}

/// # Safety
/// `file` was opened by [`open`].
unsafe fn noted<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a Noted> {
    // SAFETY: it is null or a box that lives until `close`.
    unsafe { (*file.cast::<File>()).noted.as_ref() }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let found =
        if flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL) != 0 {
            find(path.cast())
        } else {
            None
        };
    if let Some(code) = found.as_ref().and_then(|(disk, _)| lock(disk).strike(Op::Open)) {
        // SAFETY: without methods, SQLite does not close it.
        unsafe { (*file).pMethods = std::ptr::null() };
        return code;
    }
    // SAFETY: arguments are handed on; `inner` has the room that the real layer asked for.
    unsafe {
        let real = real_vfs();
        let open = (*real).xOpen.expect("every layer opens");
        let code = open(real, path, inner(file), flags, out);
        let own = file.cast::<File>();
        (*own).noted = std::ptr::null_mut();
        (*own).base.pMethods =
            if (*inner(file)).pMethods.is_null() { std::ptr::null() } else { &raw const METHODS };
        if code == ffi::SQLITE_OK {
            if let Some((disk, name)) = found {
                let number = lock(&disk).opened(&name, flags & ffi::SQLITE_OPEN_MAIN_DB == 0);
                (*own).noted = Box::into_raw(Box::new(Noted { disk, number }));
            }
        }
        code
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, is_synced: c_int) -> c_int {
    let found = find(path);
    if let Some(code) = found.as_ref().and_then(|(disk, _)| lock(disk).strike(Op::Delete)) {
        return code;
    }
    // SAFETY: arguments are handed on.
    let code = unsafe {
        let real = real_vfs();
        (*real).xDelete.expect("every layer deletes")(real, path, 0)
    };
    if let (Some((disk, name)), ffi::SQLITE_OK) = (found, code) {
        lock(&disk).deleted(&name, is_synced != 0);
    }
    code
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the box was made by `open` and is taken once.
    unsafe {
        let own = file.cast::<File>();
        if !(*own).noted.is_null() {
            drop(Box::from_raw((*own).noted));
        }
        let inner = inner(file);
        (*(*inner).pMethods).xClose.expect("a file closes")(inner)
    }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, bytes: c_int, at: i64) -> c_int {
    // SAFETY: arguments are handed on.
    unsafe {
        if let Some(code) = noted(file).and_then(|noted| lock(&noted.disk).strike(Op::Read)) {
            return code;
        }
        let inner = inner(file);
        (*(*inner).pMethods).xRead.expect("a file is read")(inner, to, bytes, at)
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    at: i64,
) -> c_int {
    // SAFETY: arguments are handed on; `from` has that many bytes.
    unsafe {
        let inner = inner(file);
        let real_write = (*(*inner).pMethods).xWrite.expect("a file is written");
        let Some(noted) = noted(file) else { return real_write(inner, from, bytes, at) };
        let mut disk = lock(&noted.disk);
        let fault = disk.strike(Op::Write);
        // A write that fails may have got half way.
        let bytes = if fault.is_some() { bytes / 2 } else { bytes };
        let data = std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(bytes).expect("a length"));
        disk.written(noted.number, usize::try_from(at).expect("a place"), data);
        let code = real_write(inner, from, bytes, at);
        fault.unwrap_or(code)
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    // SAFETY: arguments are handed on.
    unsafe {
        if let Some(noted) = noted(file) {
            let mut disk = lock(&noted.disk);
            if let Some(code) = disk.strike(Op::Truncate) {
                return code;
            }
            disk.truncated(noted.number, usize::try_from(bytes).expect("a length"));
        }
        let inner = inner(file);
        (*(*inner).pMethods).xTruncate.expect("a file is truncated")(inner, bytes)
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: `file` was opened by `open`.
    if let Some(noted) = unsafe { noted(file) } {
        let mut disk = lock(&noted.disk);
        let fault = disk.strike(Op::Sync);
        disk.synced(noted.number, fault.is_some());
        return fault.unwrap_or(ffi::SQLITE_OK);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: arguments are handed on.
    unsafe {
        if let Some(code) = noted(file).and_then(|noted| lock(&noted.disk).strike(Op::SharedMemory)) {
            *out = std::ptr::null_mut();
            return code;
        }
        let inner = inner(file);
        (*(*inner).pMethods).xShmMap.expect("memory is shared")(inner, page, bytes, extend, out)
    }
}

/// Methods that only hand on.
macro_rules! handed_on {
    ($($name:ident, $method:ident, ($($argument:ident: $kind:ty),*), $result:ty;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $kind)*) -> $result {
            // SAFETY: arguments are handed on.
            unsafe {
                let inner = inner(file);
                (*(*inner).pMethods).$method.expect("the real layer has it")(inner $(, $argument)*)
            }
        }
    )*};
}

handed_on! {
    size, xFileSize, (out: *mut i64), c_int;
    lock_file, xLock, (level: c_int), c_int;
    unlock_file, xUnlock, (level: c_int), c_int;
    check_reserved, xCheckReservedLock, (out: *mut c_int), c_int;
    control, xFileControl, (what: c_int, argument: *mut c_void), c_int;
    sector_size, xSectorSize, (), c_int;
    characteristics, xDeviceCharacteristics, (), c_int;
    shm_lock, xShmLock, (offset: c_int, slots: c_int, flags: c_int), c_int;
    shm_barrier, xShmBarrier, (), ();
    shm_unmap, xShmUnmap, (is_deleted: c_int), c_int;
}
