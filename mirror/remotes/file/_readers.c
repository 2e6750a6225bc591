/* Threads that read whole small files without the interpreter's lock, and may be left alone with a dead server.
 *
 * How many are at work follows from how long they take. What is in memory is read in some 50 µs: there one
 * thread that does one file after the other costs least, for waking another costs as much as the file, and
 * two would be in each other's way. Over a network each file is a wait of milliseconds, and as many threads
 * as there may be should wait at the same time; so should others than the one that a disk or a server holds
 * up. So a file is not given to another thread as long as one has begun its last file less than `PATIENCE` ago,
 * and will soon be here for it; but it waits no longer than that itself. One idle thread watches, and only
 * while files wait. Nobody has to know what kind of file system it is.
 *
 * A thread may never come back. So nobody waits for one, not at the end either: they are detached, and what
 * they use belongs to whoever lets go of it last. They touch no Python object: what one reads is its own until
 * it is done, and is thrown away if the file was cancelled meanwhile. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <time.h>

#include "whole.h"

static const int64_t PATIENCE_NS = 1000 * 1000, SECOND_NS = 1000 * 1000 * 1000;

/* One file that is asked for. */
typedef struct file {
    Wanted wanted; /* its paths are the file's own */
    int64_t since; /* when it was asked for; once it is at work: when that began */
    /* all below is guarded by the pool's lock */
    struct file *next, *previous; /* in order of asking; or, next only, among those that are done */
    bool done;
    PyObject *whole; /* held for the pool until done() returns it; touched with the interpreter's lock only */
    int holders;     /* the Python object, and a thread that is at work on it */
    Got got;
} File;

/* What threads and their owner share. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int ready; /* an eventfd: for whoever waits for files; the owner's */
    /* all below is guarded by the lock */
    int holders; /* the owner, and each thread */
    bool closing;
    int limit, threads, idle;
    bool coming;  /* a thread was woken or made, and has not looked yet */
    bool watched; /* an idle thread looks again in a moment */
    File *first, *last; /* those that are not done: first those at work, then those that wait */
    File *waiting;      /* the first of the latter */
    File *done, **done_end;
} Pool;

static int64_t now_ns(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * SECOND_NS + moment.tv_nsec;
}

/* -- with the lock ---------------------------------------------------------------------------- */

static void *serve(void *argument);

/* Have one more thread look, unless all that there may be are at work. True: one is to be woken, without the
 * lock, for which it would only wait again. */
static bool call(Pool *pool)
{
    if (pool->coming)
        return false;
    if (pool->idle > 0) {
        pool->coming = true;
        return true;
    }
    if (pool->threads < pool->limit) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &attributes, serve, pool) == 0) {
            pool->coming = true;
            pool->threads++;
            pool->holders++;
        }
        pthread_attr_destroy(&attributes);
    }
    return false;
}

/* Whether a thread that is at work will soon be here for the next file. */
static bool soon(const Pool *pool, int64_t now)
{
    for (const File *file = pool->first; file != pool->waiting; file = file->next)
        if (now - file->since < PATIENCE_NS)
            return true;
    return false;
}

static void append(Pool *pool, File *file)
{
    file->previous = pool->last;
    file->next = NULL;
    if (pool->last != NULL)
        pool->last->next = file;
    else
        pool->first = file;
    pool->last = file;
    if (pool->waiting == NULL)
        pool->waiting = file;
}

/* Move a file to those that are done; true: somebody has to be told. */
static bool end(Pool *pool, File *file)
{
    if (pool->waiting == file)
        pool->waiting = file->next;
    *(file->previous != NULL ? &file->previous->next : &pool->first) = file->next;
    *(file->next != NULL ? &file->next->previous : &pool->last) = file->previous;
    file->next = NULL;
    file->done = true;
    bool nobody_knows = pool->done == NULL;
    *pool->done_end = file;
    pool->done_end = &file->next;
    return nobody_knows;
}

static void tell(const Pool *pool)
{
    uint64_t one = 1;
    while (write(pool->ready, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void drop_file(File *file)
{
    if (--file->holders > 0)
        return;
    free(file->got.data);
    free((char *)file->wanted.root);
    free((char *)file->wanted.path);
    free(file);
}

/* Let go of the lock, and of the pool. */
static void leave(Pool *pool)
{
    bool last = --pool->holders == 0;
    pthread_mutex_unlock(&pool->lock);
    if (!last)
        return;
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* -- the threads ------------------------------------------------------------------------------ */

/* Wait until something changed; whoever watches comes back in a moment anyway. */
static void rest(Pool *pool)
{
    pool->idle++;
    if (pool->waiting != NULL && !pool->watched) {
        pool->watched = true;
        int64_t until = now_ns() + PATIENCE_NS;
        struct timespec moment = {.tv_sec = until / SECOND_NS, .tv_nsec = until % SECOND_NS};
        pthread_cond_timedwait(&pool->wake, &pool->lock, &moment);
        pool->watched = false;
    } else
        pthread_cond_wait(&pool->wake, &pool->lock);
    pool->idle--;
    pool->coming = false;
}

/* The next file, taken; NULL: there is none, or (`unless_soon`) another thread will soon be here for it. `wake`:
 * another thread is to be woken. */
static File *take(Pool *pool, bool unless_soon, bool *wake)
{
    File *file = pool->waiting;
    int64_t now = now_ns();
    if (file == NULL || (unless_soon && now - file->since < PATIENCE_NS && soon(pool, now)))
        return NULL;
    pool->waiting = file->next;
    file->since = now;
    file->holders++;
    *wake = pool->waiting != NULL && !pool->watched && call(pool);
    return file;
}

static void *serve(void *argument)
{
    Pool *pool = argument;
    pthread_setname_np(pthread_self(), "mirror-reader");
    pthread_mutex_lock(&pool->lock);
    pool->coming = false;
    bool comes_from_work = false;
    while (!pool->closing) {
        bool wake;
        File *file = take(pool, !comes_from_work, &wake);
        comes_from_work = file != NULL;
        if (file == NULL) {
            rest(pool);
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        if (wake)
            pthread_cond_signal(&pool->wake);
        Got got;
        read_whole(&file->wanted, &got);
        pthread_mutex_lock(&pool->lock);
        if (file->done)
            free(got.data); /* it was cancelled */
        else {
            file->got = got;
            if (end(pool, file))
                tell(pool);
        }
        drop_file(file);
    }
    pool->threads--;
    leave(pool);
    return NULL;
}

/* -- files, for Python ------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    Pool *pool; /* held */
    File *file;
    PyObject *token; /* NULL once it is finished: whoever is told may hold this object */
    bool finished; /* done() returned it: nobody else touches the file's result any more */
} Whole;

static void whole_dealloc(Whole *whole)
{
    if (whole->pool != NULL) {
        pthread_mutex_lock(&whole->pool->lock);
        drop_file(whole->file);
        leave(whole->pool);
    }
    Py_XDECREF(whole->token);
    Py_TYPE(whole)->tp_free((PyObject *)whole);
}

static bool is_finished(const Whole *whole)
{
    if (!whole->finished)
        PyErr_SetString(PyExc_ValueError, "it is not finished");
    return whole->finished;
}

static int whole_buffer(Whole *whole, Py_buffer *view, int flags)
{
    view->obj = NULL;
    if (!whole->finished) {
        PyErr_SetString(PyExc_BufferError, "it is not finished");
        return -1;
    }
    Got *got = &whole->file->got;
    return PyBuffer_FillInfo(view, (PyObject *)whole, got->data == NULL ? "" : got->data, (Py_ssize_t)got->size, 1,
                             flags);
}

static PyObject *whole_error(Whole *whole, void *unused)
{
    (void)unused;
    return is_finished(whole) ? PyLong_FromLong(whole->file->got.error) : NULL;
}

static PyObject *whole_status(Whole *whole, void *unused)
{
    (void)unused;
    if (!is_finished(whole))
        return NULL;
    const struct stat *status = &whole->file->got.status;
    return Py_BuildValue("KLLL", (unsigned long long)status->st_ino, (long long)status->st_size,
                         (long long)(status->st_mtim.tv_sec * SECOND_NS + status->st_mtim.tv_nsec),
                         (long long)(status->st_ctim.tv_sec * SECOND_NS + status->st_ctim.tv_nsec));
}

static PyGetSetDef whole_getters[] = {
    {"error", (getter)whole_error, NULL, "An errno, or 0: all of the file is here.", NULL},
    {"status", (getter)whole_status, NULL, "What was read: (inode, size, mtime, ctime).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyBufferProcs whole_buffers = {.bf_getbuffer = (getbufferproc)whole_buffer};

static PyTypeObject WholeType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mirror.remotes.file._readers.Whole",
    .tp_basicsize = sizeof(Whole),
    .tp_dealloc = (destructor)whole_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A file that is read; its buffer holds the bytes, once it is finished.",
    .tp_getset = whole_getters,
    .tp_as_buffer = &whole_buffers,
};

/* -- the threads' owner ----------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Pool *pool; /* held */
} Readers;

static PyObject *readers_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"", NULL};
    int limit;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "i", names, &limit))
        return NULL;
    if (limit < 1) {
        PyErr_SetString(PyExc_ValueError, "there is at least one thread");
        return NULL;
    }
    Readers *readers = (Readers *)type->tp_alloc(type, 0);
    Pool *pool = readers == NULL ? NULL : calloc(1, sizeof *pool);
    if (pool == NULL) {
        Py_XDECREF(readers);
        return PyErr_NoMemory();
    }
    pool->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->ready < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        free(pool);
        Py_DECREF(readers);
        return NULL;
    }
    pool->limit = limit;
    pool->holders = 1;
    pool->done_end = &pool->done;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    readers->pool = pool;
    return (PyObject *)readers;
}

/* With the lock. */
static void give_up(Pool *pool, File *file, int error)
{
    file->got.error = error;
    if (end(pool, file))
        tell(pool);
}

static PyObject *readers_close(Readers *readers, PyObject *unused)
{
    (void)unused;
    Pool *pool = readers->pool;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    while (pool->first != NULL)
        give_up(pool, pool->first, ECANCELED);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    Py_RETURN_NONE;
}

static File *take_done(Pool *pool)
{
    uint64_t count;
    while (read(pool->ready, &count, sizeof count) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&pool->lock);
    File *done = pool->done;
    pool->done = NULL;
    pool->done_end = &pool->done;
    pthread_mutex_unlock(&pool->lock);
    return done;
}

/* The file's Python object, the pool's reference to it, and its token are the caller's. */
static Whole *finish(File *file, PyObject **token)
{
    Whole *whole = (Whole *)file->whole;
    whole->finished = true;
    *token = whole->token;
    whole->token = NULL;
    return whole;
}

static PyObject *readers_done(Readers *readers, PyObject *unused)
{
    (void)unused;
    PyObject *files = PyList_New(0);
    for (File *file = take_done(readers->pool), *next; file != NULL; file = next) {
        next = file->next; /* the file may end with its Python object */
        PyObject *token, *pair;
        Whole *whole = finish(file, &token);
        pair = PyTuple_Pack(2, whole, token);
        Py_DECREF(whole);
        Py_DECREF(token);
        if (files != NULL && (pair == NULL || PyList_Append(files, pair) < 0))
            Py_CLEAR(files);
        Py_XDECREF(pair);
    }
    return files;
}

static void readers_dealloc(Readers *readers)
{
    Pool *pool = readers->pool;
    if (pool != NULL) {
        Py_XDECREF(readers_close(readers, NULL));
        for (File *file = take_done(pool), *next; file != NULL; file = next) {
            next = file->next;
            PyObject *token;
            Py_DECREF(finish(file, &token));
            Py_DECREF(token);
        }
        pthread_mutex_lock(&pool->lock);
        close(pool->ready);
        leave(pool);
    }
    Py_TYPE(readers)->tp_free((PyObject *)readers);
}

static PyObject *readers_begin(Readers *readers, PyObject *args)
{
    PyObject *root = NULL, *path = NULL, *token;
    unsigned long long device, inode;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(args, "O&KKO&nO", PyUnicode_FSConverter, &root, &device, &inode, PyUnicode_FSConverter,
                          &path, &most, &token)) {
        Py_XDECREF(root);
        return NULL;
    }
    Whole *whole = PyObject_New(Whole, &WholeType);
    File *file = calloc(1, sizeof *file);
    if (whole != NULL) {
        whole->pool = NULL;
        whole->file = file;
        whole->token = Py_NewRef(token);
        whole->finished = false;
    }
    if (file != NULL)
        file->wanted = (Wanted){
            .root = strdup(PyBytes_AS_STRING(root)),
            .path = strdup(PyBytes_AS_STRING(path)),
            .device = (dev_t)device,
            .inode = (ino_t)inode,
            .most = most < 0 ? 0 : (size_t)most,
        };
    Py_DECREF(root);
    Py_DECREF(path);
    if (whole == NULL || file == NULL || file->wanted.root == NULL || file->wanted.path == NULL) {
        if (file != NULL) {
            file->holders = 1;
            drop_file(file);
        }
        Py_XDECREF(whole);
        return PyErr_NoMemory();
    }
    Pool *pool = readers->pool;
    file->since = now_ns();
    file->whole = Py_NewRef(whole); /* the pool's */
    file->holders = 1;
    pthread_mutex_lock(&pool->lock);
    pool->holders++;
    whole->pool = pool;
    bool alone = pool->waiting == NULL;
    append(pool, file);
    /* Whoever watches would come to it; where no thread is about to, it is called at once. */
    bool wake = !pool->closing && (!pool->watched || (alone && !soon(pool, file->since))) && call(pool);
    if (pool->closing || pool->threads == 0)
        give_up(pool, file, EAGAIN);
    pthread_mutex_unlock(&pool->lock);
    if (wake)
        pthread_cond_signal(&pool->wake);
    return (PyObject *)whole;
}

static PyObject *readers_cancel(Readers *readers, PyObject *argument)
{
    if (!Py_IS_TYPE(argument, &WholeType) || ((Whole *)argument)->pool != readers->pool) {
        PyErr_SetString(PyExc_TypeError, "only what was begun here can be cancelled");
        return NULL;
    }
    File *file = ((Whole *)argument)->file;
    pthread_mutex_lock(&readers->pool->lock);
    if (!file->done)
        give_up(readers->pool, file, ECANCELED);
    pthread_mutex_unlock(&readers->pool->lock);
    Py_RETURN_NONE;
}

static PyObject *readers_fileno(Readers *readers, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(readers->pool->ready);
}

static PyMethodDef readers_methods[] = {
    {"begin", (PyCFunction)readers_begin, METH_VARARGS, "Read a file: (root, its device and inode, path, most, token)."},
    {"cancel", (PyCFunction)readers_cancel, METH_O, "End one at once; it is finished like any other."},
    {"done", (PyCFunction)readers_done, METH_NOARGS, "Return the files that are finished, each with what was given for it."},
    {"fileno", (PyCFunction)readers_fileno, METH_NOARGS, "A descriptor that is readable while there are any."},
    {"close", (PyCFunction)readers_close, METH_NOARGS, "End the threads, without waiting for them."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject ReadersType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mirror.remotes.file._readers.Readers",
    .tp_basicsize = sizeof(Readers),
    .tp_dealloc = (destructor)readers_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Threads that read whole small files.",
    .tp_methods = readers_methods,
    .tp_new = readers_new,
};

static PyObject *usable(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(can_open_beneath());
}

static PyMethodDef functions[] = {
    {"usable", usable, METH_NOARGS, "Whether the kernel lets this process open files as it is done here."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mirror.remotes.file._readers",
    .m_doc = "Threads that read whole small files, and may be left alone.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__readers(void)
{
    if (PyType_Ready(&WholeType) < 0 || PyType_Ready(&ReadersType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddObjectRef(made, "Readers", (PyObject *)&ReadersType) < 0
        || PyModule_AddObjectRef(made, "Whole", (PyObject *)&WholeType) < 0) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
