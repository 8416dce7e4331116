/*
 * What a file node does many thousand times a second, without the interpreter.
 *
 * read_now     what the page cache has, straight into the bytes that are handed out
 * new_buffer   memory that nobody has made zero
 * Writer       a thread that writes and never takes the interpreter's lock
 *
 * A Writer takes batches of writes and does them in order, one after the other:
 *
 *     reactor:  submit(batch) ... submit(batch) ..........   reap()
 *                    |                 |                       ^
 *     thread:        +--> pwrite pwrite pwrite ...  --eventfd--+
 *
 * A submit may wait a little for its batch; then nothing is signalled through the eventfd, and to have a block written
 * costs two changes of threads and no Python at all.
 *
 * Who owns what.  The reactor's side makes a Batch, takes hold of every buffer in it, and lets go of them when the
 * batch has come back; the thread only reads the memory behind them.  So the thread needs no interpreter, and a batch
 * that never comes back keeps its buffers for ever, which is what a write that hangs in the kernel needs.  The Shared
 * part lives until both the Writer and its thread have let go of it.
 *
 * dst/native/files.py holds the same in Python.
 */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Above this a copy takes longer than it takes to let another thread have the interpreter meanwhile. */
#define HOLD_LOCK_BYTES_MAX (128 * 1024)

/* What a system call and what a test puts in its place need. */
#define STACK_BYTES (1024 * 1024)

#define WAIT_S_MAX 3600.0

/*
 * To wake a thread takes 20 us and more where its processor sleeps. So each of the two looks for what the other one
 * does for a moment before it sleeps, and gives way between two looks: the thread while batches follow each other at
 * once, a submit for as long as the page cache takes for some hundred blocks.
 */
#define LOOK_NS_THREAD 100000
#define LOOK_NS_SUBMIT 50000
#define LOOK_CREDIT_MAX 16
#define LOOK_CREDIT 8
#define LOOK_LATE_COST 2

typedef ssize_t (*pwrite_function)(int, const void *, size_t, off_t);

typedef struct {
    Py_buffer buffer;
    off_t offset;
    int error;
} Write;

typedef struct Batch {
    struct Batch *next;
    PyObject *token;
    int fd;
    bool failed;
    size_t bytes; /* of all of them; if that is too much to be counted nothing is wrong but this */
    Py_ssize_t count;
    Write writes[];
} Batch;

typedef struct {
    Batch *first, *last;
} Queue;

typedef struct {
    pthread_mutex_t mutex; /* over all that follows, but what never changes */
    pthread_cond_t given;  /* the thread waits for something to do */
    pthread_cond_t ended;  /* a submit waits for its batch */
    Queue waiting;         /* given, not begun */
    Queue done;            /* ended, not reaped */
    Py_ssize_t in_flight;  /* batches given, not ended */
    bool waited_for;       /* a submit waits: the eventfd says nothing */
    bool told;             /* the eventfd has been signalled since the last reap */
    bool taken_back;       /* what is left of the batch that was begun is not done */
    bool stopping;
    bool asleep;           /* the thread waits to be signalled */
    int owners; /* the Writer, and the thread while it runs */

    unsigned given_count; /* changes with what there is to do; looked at without the mutex */

    int event_fd; /* these never change */
    pwrite_function write;
    char name[16];
} Shared;

typedef struct {
    PyObject_HEAD
    Shared *shared;
    pthread_t thread;
    bool started;
    bool stopped;
    int beside; /* the processor that the thread is kept on, or -1 */
} Writer;

/* -- queues -- */

static void put(Queue *queue, Batch *batch) {
    batch->next = NULL;
    if (queue->last != NULL)
        queue->last->next = batch;
    else
        queue->first = batch;
    queue->last = batch;
}

static Batch *take(Queue *queue) {
    Batch *batch = queue->first;
    if (batch != NULL) {
        queue->first = batch->next;
        if (queue->first == NULL)
            queue->last = NULL;
    }
    return batch;
}

/* Take this one out, if it is there and all of it was written. */
static bool take_written(Queue *queue, const Batch *wanted) {
    Batch *before = NULL;
    for (Batch *batch = queue->first; batch != NULL; before = batch, batch = batch->next) {
        if (batch != wanted)
            continue;
        if (batch->failed)
            break;
        if (before != NULL)
            before->next = batch->next;
        else
            queue->first = batch->next;
        if (queue->last == batch)
            queue->last = before;
        return true;
    }
    return false;
}

static Batch *take_all(Queue *queue) {
    Batch *first = queue->first;
    queue->first = queue->last = NULL;
    return first;
}

/* -- the thread -- */

static void let_go(Shared *shared) {
    pthread_mutex_lock(&shared->mutex);
    bool last = --shared->owners == 0;
    pthread_mutex_unlock(&shared->mutex);
    if (!last)
        return;
    close(shared->event_fd);
    pthread_cond_destroy(&shared->given);
    pthread_cond_destroy(&shared->ended);
    pthread_mutex_destroy(&shared->mutex);
    free(shared); /* batches that nobody reaped are lost: to free them would take the interpreter */
}

/* All of one write, or the error that ended it. */
static int write_all(const Shared *shared, int fd, const Write *write) {
    const char *data = write->buffer.buf;
    size_t left = (size_t)write->buffer.len;
    off_t offset = write->offset;
    while (left > 0) {
        ssize_t count = shared->write(fd, data, left, offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno ? errno : EIO;
        if (count == 0 || (size_t)count > left)
            return EIO; /* it would go on for ever */
        data += count;
        offset += count;
        left -= (size_t)count;
    }
    return 0;
}

static void do_batch(Shared *shared, Batch *batch) {
    for (Py_ssize_t index = 0; index < batch->count; index++) {
        Write *write = &batch->writes[index];
        /* To read it without the mutex would do, if the language allowed it; so it is asked for atomically. */
        if (__atomic_load_n(&shared->taken_back, __ATOMIC_ACQUIRE))
            write->error = ECANCELED;
        else
            write->error = write_all(shared, batch->fd, write);
        batch->failed |= write->error != 0;
    }
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/*
 * The thread has nothing to do; with the mutex, as pthread_cond_wait. What is given is put under the mutex, and whoever
 * puts it signals a thread that is asleep; so nothing is missed, whatever is seen here without it.
 */
static void wait_for_more(Shared *shared, int *credit) {
    long long end = now_ns() + LOOK_NS_THREAD;
    if (*credit >= LOOK_CREDIT) {
        unsigned before = shared->given_count;
        bool given = false;
        pthread_mutex_unlock(&shared->mutex);
        while (!given && now_ns() < end) {
            sched_yield();
            given = __atomic_load_n(&shared->given_count, __ATOMIC_ACQUIRE) != before;
        }
        pthread_mutex_lock(&shared->mutex);
        if (shared->given_count != before) {
            *credit += *credit < LOOK_CREDIT_MAX;
            return;
        }
    }
    shared->asleep = true;
    pthread_cond_wait(&shared->given, &shared->mutex);
    shared->asleep = false;
    if (now_ns() < end)
        *credit += *credit < LOOK_CREDIT_MAX;
    else
        *credit = *credit > LOOK_LATE_COST ? *credit - LOOK_LATE_COST : 0;
}

static void *run(void *argument) {
    Shared *shared = argument;
    int credit = 0;
    pthread_setname_np(pthread_self(), shared->name);
    pthread_mutex_lock(&shared->mutex);
    for (;;) {
        Batch *batch = take(&shared->waiting);
        if (batch == NULL) {
            if (shared->stopping)
                break;
            wait_for_more(shared, &credit);
            continue;
        }
        pthread_mutex_unlock(&shared->mutex);
        do_batch(shared, batch);
        pthread_mutex_lock(&shared->mutex);
        put(&shared->done, batch);
        __atomic_store_n(&shared->in_flight, shared->in_flight - 1, __ATOMIC_RELEASE);
        __atomic_store_n(&shared->taken_back, false, __ATOMIC_RELEASE);
        bool wake = shared->waited_for && shared->in_flight == 0;
        bool tell = !shared->waited_for && !shared->told;
        shared->told |= tell;
        if (wake || tell) { /* without the mutex, which who is woken wants at once */
            pthread_mutex_unlock(&shared->mutex);
            if (wake)
                pthread_cond_signal(&shared->ended);
            else
                eventfd_write(shared->event_fd, 1);
            pthread_mutex_lock(&shared->mutex);
        }
    }
    pthread_mutex_unlock(&shared->mutex);
    let_go(shared);
    return NULL;
}

/* Started when there is something to do; the signals of the process are not for it. */
static int start_thread(Writer *self) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int error = pthread_attr_init(&attributes);
    if (error == 0) {
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        self->shared->owners++; /* there is no other thread yet */
        error = pthread_create(&self->thread, &attributes, run, self->shared);
        if (error != 0)
            self->shared->owners--;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (error != 0) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->started = true;
    return 0;
}

/* A batch from which on it is dearer to move its data to another processor's cache than to share a processor. */
#define BESIDE_BYTES_MIN (64 * 1024)

/*
 * While a submit waits for the thread the processor it runs on has nothing else to do, and has the data in its cache:
 * large batches are faster there. For small ones another processor is as good, and finding one is the kernel's
 * business, as for a thread that is not waited for. What does not work here costs time and nothing else, so nobody
 * hears of it.
 */
static void keep_beside(Writer *self, const Batch *batch, bool waits) {
    int beside = waits && batch->bytes >= BESIDE_BYTES_MIN ? sched_getcpu() : -1;
    if (beside == self->beside || beside >= CPU_SETSIZE)
        return;
    cpu_set_t processors;
    if (beside >= 0) {
        CPU_ZERO(&processors);
        CPU_SET(beside, &processors);
    } else if (sched_getaffinity(0, sizeof(processors), &processors) < 0) {
        return;
    }
    if (pthread_setaffinity_np(self->thread, sizeof(processors), &processors) == 0)
        self->beside = beside;
}

/* -- batches, on the reactor's side -- */

static void free_batch(Batch *batch) {
    for (Py_ssize_t index = 0; index < batch->count; index++)
        PyBuffer_Release(&batch->writes[index].buffer);
    Py_XDECREF(batch->token);
    PyMem_Free(batch);
}

/* A batch of C{[(offset, data), ...]}, with hold of every buffer; NULL with an error set, and hold of none. */
static Batch *new_batch(int fd, PyObject *writes, PyObject *token) {
    PyObject *items = PySequence_Tuple(writes); /* a buffer's owner may run code, and change a list */
    if (items == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    Batch *batch = NULL;
    if ((size_t)count <= (PY_SSIZE_T_MAX - sizeof(Batch)) / sizeof(Write))
        batch = PyMem_Malloc(sizeof(Batch) + (size_t)count * sizeof(Write));
    if (batch == NULL) {
        Py_DECREF(items);
        PyErr_NoMemory();
        return NULL;
    }
    *batch = (Batch){.fd = fd, .token = Py_NewRef(token)};
    while (batch->count < count) {
        PyObject *item = PyTuple_GET_ITEM(items, batch->count);
        Write *write = &batch->writes[batch->count];
        if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            PyErr_SetString(PyExc_TypeError, "expected writes as (offset, data)");
            break;
        }
        long long offset = PyLong_AsLongLong(PyTuple_GET_ITEM(item, 0));
        if (offset == -1 && PyErr_Occurred())
            break;
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(item, 1), &write->buffer, PyBUF_SIMPLE) < 0)
            break;
        write->offset = offset;
        write->error = 0;
        batch->bytes += (size_t)write->buffer.len;
        batch->count++;
        if (offset < 0 || offset > INT64_MAX - write->buffer.len) {
            PyErr_Format(PyExc_ValueError, "%zd bytes at %lld are not in any file", write->buffer.len, offset);
            break;
        }
    }
    Py_DECREF(items);
    if (PyErr_Occurred()) {
        free_batch(batch);
        return NULL;
    }
    return batch;
}

/* (token, errors): None where there are none. */
static PyObject *outcome(const Batch *batch) {
    PyObject *errors = Py_NewRef(Py_None);
    if (batch->failed) {
        Py_SETREF(errors, PyList_New(batch->count));
        for (Py_ssize_t index = 0; errors != NULL && index < batch->count; index++) {
            PyObject *error = PyLong_FromLong(batch->writes[index].error);
            if (error == NULL)
                Py_CLEAR(errors);
            else
                PyList_SET_ITEM(errors, index, error);
        }
        if (errors == NULL)
            return NULL;
    }
    PyObject *pair = PyTuple_Pack(2, batch->token, errors);
    Py_DECREF(errors);
    return pair;
}

static struct timespec deadline_after(double seconds) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    if (seconds > WAIT_S_MAX)
        seconds = WAIT_S_MAX;
    long long nanoseconds = at.tv_nsec + (long long)(seconds * 1e9);
    at.tv_sec += nanoseconds / 1000000000;
    at.tv_nsec = nanoseconds % 1000000000;
    return at;
}

/* -- Writer -- */

static PyObject *Writer_submit(Writer *self, PyObject *const *args, Py_ssize_t count) {
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "submit(fd, writes, token, wait_s)");
        return NULL;
    }
    long fd = PyLong_AsLong(args[0]);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    double wait_s = PyFloat_AsDouble(args[3]);
    if (wait_s == -1.0 && PyErr_Occurred())
        return NULL;
    if (fd < 0 || fd > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "%ld is no file", fd);
        return NULL;
    }
    if (self->stopped) {
        PyErr_SetString(PyExc_RuntimeError, "this writer was stopped");
        return NULL;
    }
    Batch *batch = new_batch((int)fd, args[1], args[2]);
    if (batch == NULL)
        return NULL;
    if (self->stopped || (!self->started && start_thread(self) < 0)) {
        free_batch(batch);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "this writer was stopped");
        return NULL;
    }

    Shared *shared = self->shared;
    bool finished = false, untold = false;
    keep_beside(self, batch, wait_s > 0);
    pthread_mutex_lock(&shared->mutex);
    bool asleep = shared->asleep;
    put(&shared->waiting, batch);
    shared->in_flight++;
    if (wait_s > 0)
        shared->waited_for = true;
    __atomic_store_n(&shared->given_count, shared->given_count + 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&shared->mutex);
    if (asleep)
        pthread_cond_signal(&shared->given);
    if (wait_s > 0) {
        struct timespec deadline = deadline_after(wait_s);
        Py_BEGIN_ALLOW_THREADS
        long long end = now_ns() + LOOK_NS_SUBMIT;
        while (__atomic_load_n(&shared->in_flight, __ATOMIC_ACQUIRE) > 0 && now_ns() < end)
            sched_yield();
        pthread_mutex_lock(&shared->mutex);
        while (shared->in_flight > 0 &&
               pthread_cond_timedwait(&shared->ended, &shared->mutex, &deadline) != ETIMEDOUT)
            ;
        shared->waited_for = false;
        /* A batch that failed is told of as those are that were not waited for. */
        finished = take_written(&shared->done, batch);
        if (shared->done.first != NULL && !shared->told)
            untold = shared->told = true;
        pthread_mutex_unlock(&shared->mutex);
        if (untold)
            eventfd_write(shared->event_fd, 1);
        Py_END_ALLOW_THREADS
    }
    if (finished)
        free_batch(batch);
    return PyBool_FromLong(finished);
}

static PyObject *Writer_reap(Writer *self, PyObject *Py_UNUSED(ignored)) {
    Shared *shared = self->shared;
    eventfd_t ignored;
    eventfd_read(shared->event_fd, &ignored); /* never waits; before looking, so that what ends later is signalled */
    pthread_mutex_lock(&shared->mutex);
    Batch *batch = take_all(&shared->done);
    shared->told = false;
    pthread_mutex_unlock(&shared->mutex);

    PyObject *outcomes = PyList_New(0);
    while (batch != NULL) {
        Batch *next = batch->next;
        PyObject *pair = outcomes == NULL ? NULL : outcome(batch);
        if (pair == NULL || PyList_Append(outcomes, pair) < 0)
            Py_CLEAR(outcomes); /* out of memory: what it was about is released all the same */
        Py_XDECREF(pair);
        free_batch(batch);
        batch = next;
    }
    return outcomes;
}

static PyObject *Writer_take_back(Writer *self, PyObject *Py_UNUSED(ignored)) {
    Shared *shared = self->shared;
    pthread_mutex_lock(&shared->mutex);
    Batch *batch = take_all(&shared->waiting);
    for (Batch *each = batch; each != NULL; each = each->next)
        shared->in_flight--;
    if (shared->in_flight > 0)
        __atomic_store_n(&shared->taken_back, true, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&shared->mutex);

    PyObject *tokens = PyList_New(0);
    while (batch != NULL) {
        Batch *next = batch->next;
        if (tokens != NULL && PyList_Append(tokens, batch->token) < 0)
            Py_CLEAR(tokens);
        free_batch(batch);
        batch = next;
    }
    return tokens;
}

/* Let the thread end when it has nothing more to do; wait for that only if it has nothing to do now. */
static void stop(Writer *self) {
    Shared *shared = self->shared;
    if (self->stopped)
        return;
    self->stopped = true;
    pthread_mutex_lock(&shared->mutex);
    shared->stopping = true;
    __atomic_store_n(&shared->given_count, shared->given_count + 1, __ATOMIC_RELEASE);
    bool busy = shared->in_flight > 0;
    pthread_mutex_unlock(&shared->mutex);
    pthread_cond_signal(&shared->given);
    if (!self->started)
        return;
    if (busy) {
        pthread_detach(self->thread);
    } else {
        Py_BEGIN_ALLOW_THREADS
        pthread_join(self->thread, NULL);
        Py_END_ALLOW_THREADS
    }
}

static PyObject *Writer_stop(Writer *self, PyObject *Py_UNUSED(ignored)) {
    stop(self);
    Py_RETURN_NONE;
}

static PyObject *Writer_fileno(Writer *self, PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromLong(self->shared->event_fd);
}

static Shared *new_shared(pwrite_function write, const char *name) {
    Shared *shared = calloc(1, sizeof(Shared));
    if (shared == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    shared->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (shared->event_fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        free(shared);
        return NULL;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&shared->mutex, NULL);
    pthread_cond_init(&shared->given, NULL);
    pthread_cond_init(&shared->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    shared->owners = 1;
    shared->write = write;
    strncpy(shared->name, name, sizeof(shared->name) - 1);
    return shared;
}

static PyObject *Writer_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"name", "pwrite", NULL};
    const char *name;
    PyObject *address = NULL;
    pwrite_function write = pwrite;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s|O!:Writer", names, &name, &PyLong_Type, &address))
        return NULL;
    if (address != NULL) {
        write = (pwrite_function)PyLong_AsVoidPtr(address);
        if (write == NULL) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "there is no function at 0");
            return NULL;
        }
    }
    Writer *self = (Writer *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->beside = -1;
    self->shared = new_shared(write, name);
    if (self->shared == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void Writer_dealloc(Writer *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (self->shared != NULL) {
        stop(self);
        pthread_mutex_lock(&self->shared->mutex);
        Batch *batch = take_all(&self->shared->done);
        pthread_mutex_unlock(&self->shared->mutex);
        while (batch != NULL) {
            Batch *next = batch->next;
            free_batch(batch);
            batch = next;
        }
        let_go(self->shared);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef writer_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))Writer_submit, METH_FASTCALL,
     "Have a batch written; True if that was waited for and went well."},
    {"reap", (PyCFunction)Writer_reap, METH_NOARGS, "(token, errors) of each batch that ended and was not told of."},
    {"take_back", (PyCFunction)Writer_take_back, METH_NOARGS, "Do nothing more; the tokens of what was not begun."},
    {"stop", (PyCFunction)Writer_stop, METH_NOARGS, "Let the thread end."},
    {"fileno", (PyCFunction)Writer_fileno, METH_NOARGS, "Readable when there is something to reap."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, "A thread that writes; see dst.native.files."},
    {Py_tp_new, Writer_new},
    {Py_tp_dealloc, Writer_dealloc},
    {Py_tp_methods, writer_methods},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "dst.native._files.Writer",
    .basicsize = sizeof(Writer),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = writer_slots,
};

/* -- functions -- */

static PyObject *read_now(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "read_now(fd, offset, length)");
        return NULL;
    }
    long fd = PyLong_AsLong(args[0]);
    long long offset = fd == -1 && PyErr_Occurred() ? -1 : PyLong_AsLongLong(args[1]);
    Py_ssize_t length = offset == -1 && PyErr_Occurred() ? -1 : PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    if (fd > INT32_MAX || fd < INT32_MIN || offset < 0 || length < 0) {
        PyErr_Format(PyExc_ValueError, "%zd bytes at %lld of %ld cannot be read", length, offset, fd);
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, length);
    if (data == NULL)
        return NULL;
    struct iovec where = {PyBytes_AS_STRING(data), (size_t)length};
    ssize_t found;
    if (length <= HOLD_LOCK_BYTES_MAX) {
        found = preadv2((int)fd, &where, 1, offset, RWF_NOWAIT);
    } else {
        Py_BEGIN_ALLOW_THREADS
        found = preadv2((int)fd, &where, 1, offset, RWF_NOWAIT);
        Py_END_ALLOW_THREADS
    }
    if (found == length)
        return data;
    Py_DECREF(data);
    Py_RETURN_NONE; /* whatever is wrong shows again where it may be waited for */
}

static PyObject *new_buffer(PyObject *Py_UNUSED(module), PyObject *argument) {
    Py_ssize_t length = PyLong_AsSsize_t(argument);
    if (length == -1 && PyErr_Occurred())
        return NULL;
    if (length < 0) {
        PyErr_Format(PyExc_ValueError, "%zd bytes", length);
        return NULL;
    }
    PyObject *buffer = PyByteArray_FromStringAndSize(NULL, 0);
    if (buffer != NULL && PyByteArray_Resize(buffer, length) < 0)
        Py_CLEAR(buffer);
    return buffer;
}

static PyMethodDef methods[] = {
    {"read_now", (PyCFunction)(void (*)(void))read_now, METH_FASTCALL, "The bytes, if the page cache has them."},
    {"new_buffer", new_buffer, METH_O, "So many bytes, holding anything."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &writer_spec, NULL);
    if (type == NULL)
        return -1;
    int result = PyModule_AddObjectRef(module, "Writer", type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dst.native._files",
    .m_doc = "The compiled part of dst.native.files.",
    .m_slots = slots,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__files(void) {
    return PyModuleDef_Init(&definition);
}
