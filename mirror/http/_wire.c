/* The network work of HTTP exchanges, on one thread of its own, without the interpreter's lock.
 *
 * A job is one request and the beginning of its answer, or the next bytes of one, on a connected,
 * non-blocking socket that nobody else uses meanwhile. Whoever submits it sends the request, as far as that
 * goes at once, and arms the socket: the thread hears of it first when something comes, for waking it costs
 * more than sending. It waits and receives for all jobs at once; a finished job goes onto a list, and a
 * descriptor becomes readable. How a job goes on, once it can, is in transfer/job.c.
 *
 * Over TLS a job is the same, and agreeing on keys is one more kind of it: sealing and opening is the thread's
 * work as well (transfer/tls.h).
 *
 * There are no time-outs here but for one: whoever is tired of waiting cancels the job.
 *
 * The thread never touches a Python object: a job's reference is taken when it is given to the thread,
 * and returned by done(). */
#include "transfer/job.h"

#include <structmember.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64 };

typedef struct {
    PyObject_HEAD
    pthread_t thread;
    bool running;
    int epoll, wake, ready; /* the last two are eventfds: for the thread, and for whoever waits for jobs */
    pthread_mutex_t lock;
    /* all below is guarded by the lock */
    bool closing;
    Job *active; /* under way */
    Job *done, **done_end;
} Io;

static void signal_fd(int fd)
{
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void clear_fd(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

/* -- the thread ------------------------------------------------------------------------------- */

/* Each time that the socket says something costs both ends more than some ten KiB do: it need not say it of every
 * piece of what is waited for anyhow. */
static void tell_worth(Job *job, int bytes)
{
    if (bytes == (job->worth ? job->worth : 1))
        return;
    if (setsockopt(job->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0)
        job->worth = bytes;
}

/* Have the thread hear of it when a job can go on. Once: then nobody but the thread may touch the job. */
static bool arm(Io *io, Job *job)
{
    tell_worth(job, job_worth(job));
    struct epoll_event event = {.events = job_awaits(job) | EPOLLONESHOT, .data.ptr = job};
    /* A connection that is used again is known already, unless its socket is another one. */
    if (epoll_ctl(io->epoll, EPOLL_CTL_MOD, job->fd, &event) < 0
        && (errno != ENOENT || epoll_ctl(io->epoll, EPOLL_CTL_ADD, job->fd, &event) < 0)) {
        job->error = errno;
        return false;
    }
    return true;
}

static void begin(Io *io, Job *job)
{
    job->previous = NULL;
    job->next = io->active;
    if (io->active != NULL)
        io->active->previous = job;
    io->active = job;
}

/* With the lock: move a job to those that are done; true: somebody has to be told. */
static bool end(Io *io, Job *job)
{
    tell_worth(job, 1);
    if (job->next != NULL)
        job->next->previous = job->previous;
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        io->active = job->next;
    job->next = NULL;
    bool first = io->done == NULL;
    *io->done_end = job;
    io->done_end = &job->next;
    return first;
}

static void finish(Io *io, Job *job)
{
    pthread_mutex_lock(&io->lock);
    bool first = end(io, job);
    pthread_mutex_unlock(&io->lock);
    if (first)
        signal_fd(io->ready);
}

/* End what was cancelled, and the wait for the rest of bodies that keep us waiting: what came is handed on.
 * Returns milliseconds until the next such look, -1: there is nothing to look for. */
static int look_after(Io *io, bool *closing)
{
    bool tell = false;
    int64_t now = now_ns(), until = INT64_MAX;
    pthread_mutex_lock(&io->lock);
    *closing = io->closing;
    for (Job *job = io->active, *next; job != NULL; job = next) {
        next = job->next;
        if (*closing || job->cancelled)
            job->error = ECANCELED;
        else if (job->until == 0 || now < job->until) {
            if (job->until != 0 && job->until < until)
                until = job->until;
            continue;
        }
        epoll_ctl(io->epoll, EPOLL_CTL_DEL, job->fd, NULL);
        tell |= end(io, job);
    }
    pthread_mutex_unlock(&io->lock);
    if (tell)
        signal_fd(io->ready);
    return until == INT64_MAX ? -1 : (int)((until - now) / 1000000) + 1;
}

static void *serve(void *argument)
{
    Io *io = argument;
    char *scratch = malloc(2 * SCRATCH);
    struct epoll_event events[EVENTS];
    bool closing = false;
    int timeout = -1;
    int64_t look_at = INT64_MAX;
    for (;;) {
        int count = epoll_wait(io->epoll, events, EVENTS, timeout);
        bool look = timeout >= 0 && now_ns() >= look_at;
        for (int i = 0; i < count; i++) {
            Job *job = events[i].data.ptr;
            if (job == NULL) {
                clear_fd(io->wake);
                look = true;
                continue;
            }
            if (scratch == NULL)
                job->error = ENOMEM;
            bool waited = job->until != 0;
            if (scratch == NULL || job_step(job, scratch)) {
                finish(io, job);
                continue;
            }
            look |= !waited && job->until != 0;
            if (!arm(io, job))
                finish(io, job);
        }
        if (!look)
            continue;
        timeout = look_after(io, &closing);
        look_at = timeout < 0 ? INT64_MAX : now_ns() + (int64_t)timeout * 1000000;
        if (closing)
            break;
    }
    free(scratch);
    return NULL;
}

/* -- jobs ------------------------------------------------------------------------------------- */

static void job_dealloc(Job *job)
{
    free(job->data);
    Py_XDECREF(job->token);
    Py_XDECREF(job->request);
    Py_XDECREF(job->tls);
    Py_TYPE(job)->tp_free((PyObject *)job);
}

static int job_buffer(Job *job, Py_buffer *view, int flags)
{
    if (!job->finished) {
        PyErr_SetString(PyExc_BufferError, "the job is not finished");
        view->obj = NULL;
        return -1;
    }
    return PyBuffer_FillInfo(view, (PyObject *)job, job->data == NULL ? "" : job->data, (Py_ssize_t)job->size, 1,
                             flags);
}

static PyMemberDef job_members[] = {
    {"token", T_OBJECT, offsetof(Job, token), READONLY, "What the caller gave."},
    {"error", T_INT, offsetof(Job, error), READONLY, "An errno, or 0: bytes came, or with none the end did."},
    {"head", T_PYSSIZET, offsetof(Job, head), READONLY, "Bytes of the whole head, 0: it is not here."},
    {NULL, 0, 0, 0, NULL},
};

static PyBufferProcs job_buffers = {.bf_getbuffer = (getbufferproc)job_buffer};

static PyTypeObject JobType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mirror.http._wire.Job",
    .tp_basicsize = sizeof(Job),
    .tp_dealloc = (destructor)job_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "One exchange; its buffer holds what came, once it is finished.",
    .tp_members = job_members,
    .tp_as_buffer = &job_buffers,
};

/* -- the thread's owner ----------------------------------------------------------------------- */

static PyObject *io_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "", names))
        return NULL;
    Io *io = (Io *)type->tp_alloc(type, 0);
    if (io == NULL)
        return NULL;
    io->done_end = &io->done;
    pthread_mutex_init(&io->lock, NULL);
    io->epoll = epoll_create1(EPOLL_CLOEXEC);
    io->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    io->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (io->epoll < 0 || io->wake < 0 || io->ready < 0
        || epoll_ctl(io->epoll, EPOLL_CTL_ADD, io->wake, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(io);
        return NULL;
    }
    int failed = pthread_create(&io->thread, NULL, serve, io);
    if (failed) {
        errno = failed;
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(io);
        return NULL;
    }
    io->running = true;
    return (PyObject *)io;
}

static PyObject *io_close(Io *io, PyObject *unused)
{
    (void)unused;
    if (io->running) {
        pthread_mutex_lock(&io->lock);
        io->closing = true;
        pthread_mutex_unlock(&io->lock);
        signal_fd(io->wake);
        Py_BEGIN_ALLOW_THREADS
        pthread_join(io->thread, NULL);
        Py_END_ALLOW_THREADS
        io->running = false;
    }
    Py_RETURN_NONE;
}

static PyObject *take_done(Io *io)
{
    clear_fd(io->ready);
    pthread_mutex_lock(&io->lock);
    Job *done = io->done;
    io->done = NULL;
    io->done_end = &io->done;
    pthread_mutex_unlock(&io->lock);
    PyObject *jobs = PyList_New(0);
    while (done != NULL) {
        Job *job = done;
        done = job->next;
        job->finished = true;
        Py_CLEAR(job->request);
        if (job->tls != NULL)
            job->tls->busy = false;
        Py_CLEAR(job->tls);
        if (jobs != NULL && PyList_Append(jobs, (PyObject *)job) < 0)
            Py_CLEAR(jobs);
        Py_DECREF(job); /* the thread's */
    }
    return jobs;
}

static PyObject *io_done(Io *io, PyObject *unused)
{
    (void)unused;
    return take_done(io);
}

static void io_dealloc(Io *io)
{
    PyObject *type, *value, *trace; /* of an exception that is under way, and lets go of us */
    PyErr_Fetch(&type, &value, &trace);
    Py_XDECREF(io_close(io, NULL));
    Py_XDECREF(take_done(io));
    PyErr_Restore(type, value, trace);
    if (io->epoll >= 0)
        close(io->epoll);
    if (io->wake >= 0)
        close(io->wake);
    if (io->ready >= 0)
        close(io->ready);
    pthread_mutex_destroy(&io->lock);
    Py_TYPE(io)->tp_free((PyObject *)io);
}

/* A job of a connection; NULL: with an exception. */
static Job *make_job(Io *io, int fd, PyObject *tls, PyObject *token)
{
    if (tls != Py_None && !Py_IS_TYPE(tls, &TlsType)) {
        PyErr_SetString(PyExc_TypeError, "a connection is a Tls, or None");
        return NULL;
    }
    if (!io->running || (tls != Py_None && ((Tls *)tls)->busy)) {
        PyErr_SetString(PyExc_ValueError, io->running ? "it has a job already" : "it is closed");
        return NULL;
    }
    Job *job = PyObject_New(Job, &JobType);
    if (job == NULL)
        return NULL;
    /* All behind the object's own head. */
    memset((char *)job + sizeof(PyObject), 0, sizeof(Job) - sizeof(PyObject));
    job->token = Py_NewRef(token);
    job->fd = fd;
    if (tls != Py_None) {
        job->tls = (Tls *)Py_NewRef(tls);
        job->tls->busy = true;
        job->tls->tls->fd = fd;
    }
    return job;
}

static PyObject *start(Io *io, Job *job)
{
    Py_INCREF(job); /* the thread's */
    pthread_mutex_lock(&io->lock);
    begin(io, job);
    pthread_mutex_unlock(&io->lock);
    /* What was taken from the socket already does not make it readable again. */
    job->at_once = job->tls != NULL && (job->shakes || tls_holds(job->tls->tls));
    if ((job->request != NULL && !job_send(job)) || !arm(io, job))
        finish(io, job);
    return (PyObject *)job;
}

static PyObject *io_submit(Io *io, PyObject *args)
{
    int fd;
    PyObject *request, *token, *tls = Py_None;
    Py_ssize_t most, least = 0;
    if (!PyArg_ParseTuple(args, "iOnO|nO", &fd, &request, &most, &token, &least, &tls))
        return NULL;
    if (request != Py_None && !PyBytes_Check(request)) {
        PyErr_SetString(PyExc_TypeError, "a request is bytes, or None");
        return NULL;
    }
    if (most < 0 || (request == Py_None ? most == 0 : least != 0) || least < 0 || least > most) {
        PyErr_SetString(PyExc_ValueError, "a job takes at least a byte, and no more than its most");
        return NULL;
    }
    Job *job = make_job(io, fd, tls, token);
    if (job == NULL)
        return NULL;
    job->request = request == Py_None ? NULL : Py_NewRef(request);
    job->most = (size_t)most;
    job->least = (size_t)least;
    return start(io, job);
}

static PyObject *io_shake(Io *io, PyObject *args)
{
    int fd;
    PyObject *tls, *token;
    if (!PyArg_ParseTuple(args, "iO!O", &fd, &TlsType, &tls, &token))
        return NULL;
    Job *job = make_job(io, fd, tls, token);
    if (job == NULL)
        return NULL;
    job->shakes = true;
    return start(io, job);
}

static PyObject *io_cancel(Io *io, PyObject *argument)
{
    if (!Py_IS_TYPE(argument, &JobType)) {
        PyErr_SetString(PyExc_TypeError, "only a job can be cancelled");
        return NULL;
    }
    pthread_mutex_lock(&io->lock);
    ((Job *)argument)->cancelled = true;
    pthread_mutex_unlock(&io->lock);
    signal_fd(io->wake);
    Py_RETURN_NONE;
}

static PyObject *io_fileno(Io *io, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(io->ready);
}

static PyMethodDef io_methods[] = {
    {"submit", (PyCFunction)io_submit, METH_VARARGS, "Begin a job: (fd, request or None, most, token[, least[, tls]])."},
    {"shake", (PyCFunction)io_shake, METH_VARARGS, "Begin to agree on keys: (fd, tls, token)."},
    {"cancel", (PyCFunction)io_cancel, METH_O, "End a job soon; it is finished like any other."},
    {"done", (PyCFunction)io_done, METH_NOARGS, "Return the jobs that are finished."},
    {"fileno", (PyCFunction)io_fileno, METH_NOARGS, "A descriptor that is readable while there are finished jobs."},
    {"close", (PyCFunction)io_close, METH_NOARGS, "End the thread, once no job is left."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject IoType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "mirror.http._wire.Io",
    .tp_basicsize = sizeof(Io),
    .tp_dealloc = (destructor)io_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A thread that sends and receives.",
    .tp_methods = io_methods,
    .tp_new = io_new,
};

/* Asked before every use of an idle connection: with the interpreter's lock, for that takes less time than
 * giving it away for a moment. */
static PyObject *is_silent(PyObject *unused, PyObject *argument)
{
    (void)unused;
    int fd = PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    char byte;
    ssize_t got;
    do
        got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return PyBool_FromLong(got < 0 && errno == EAGAIN);
}

static PyMethodDef functions[] = {
    {"silent", is_silent, METH_O, "Whether a connected socket has neither bytes nor an end nor an error to tell of."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "mirror.http._wire",
    .m_doc = "Sending and receiving on a thread of its own.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__wire(void)
{
    if (PyType_Ready(&JobType) < 0 || PyType_Ready(&IoType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddObjectRef(made, "Io", (PyObject *)&IoType) < 0
        || PyModule_AddObjectRef(made, "Job", (PyObject *)&JobType) < 0 || !add_tls_types(made)) {
        Py_XDECREF(made);
        return NULL;
    }
    return made;
}
