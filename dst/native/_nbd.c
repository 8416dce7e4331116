/*
 * The compiled equal of dst/native/plain_nbd.py: requests of NBD clients, and the usual answers to them.
 *
 * Everything here works on memory that is there already, so nothing blocks and the interpreter is never given up, but
 * by the read_now that answer_reads is handed. What arrives comes from strangers: each length is compared with what
 * there is before it is used.
 *
 * Python is run in the middle (read_now, and whatever dies when a reference is given up), and may change the lists that
 * were handed in. So their size is asked for again each time, and what is in use is held.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define COPIED_BYTES_MAX (16 * 1024)
#define HOLE_BYTES_MIN (32 * 1024)
#define HOLE_BYTES_MAX (1024 * 1024)

#define READ 0
#define WRITE 1

#define REQUEST_BYTES 28
#define REQUEST_MAGIC 0x25609513u

#define SIMPLE_REPLY_BYTES 16
#define SIMPLE_REPLY_MAGIC 0x67446698u

#define CHUNK_BYTES 20
#define STRUCTURED_REPLY_MAGIC 0x668e33efu
#define DONE 1
#define OFFSET_DATA 1
#define OFFSET_HOLE 2

/* -- numbers in network order -- */

static inline uint16_t get16(const unsigned char *from)
{
    return (uint16_t)(from[0] << 8 | from[1]);
}

static inline uint32_t get32(const unsigned char *from)
{
    return (uint32_t)get16(from) << 16 | get16(from + 2);
}

static inline uint64_t get64(const unsigned char *from)
{
    return (uint64_t)get32(from) << 32 | get32(from + 4);
}

static inline unsigned char *put16(unsigned char *to, uint16_t value)
{
    to[0] = (unsigned char)(value >> 8);
    to[1] = (unsigned char)value;
    return to + 2;
}

static inline unsigned char *put32(unsigned char *to, uint32_t value)
{
    return put16(put16(to, (uint16_t)(value >> 16)), (uint16_t)value);
}

static inline unsigned char *put64(unsigned char *to, uint64_t value)
{
    return put32(put32(to, (uint32_t)(value >> 32)), (uint32_t)value);
}

/* -- requests out of bytes -- */

typedef struct {
    unsigned long long cookie, offset;
    unsigned long command, flags, length;
} Request;

/* A tuple of them; data is stolen, also when it fails. */
static PyObject *request_tuple(const Request *request, PyObject *data)
{
    PyObject *tuple = data == NULL ? NULL : PyTuple_New(6);
    if (tuple == NULL) {
        Py_XDECREF(data);
        return NULL;
    }
    PyTuple_SET_ITEM(tuple, 5, data);
    PyObject *numbers[5] = {
        PyLong_FromUnsignedLong(request->command),
        PyLong_FromUnsignedLong(request->flags),
        PyLong_FromUnsignedLongLong(request->cookie),
        PyLong_FromUnsignedLongLong(request->offset),
        PyLong_FromUnsignedLong(request->length),
    };
    bool failed = false;
    for (int i = 0; i < 5; i++) {
        failed |= numbers[i] == NULL;
        PyTuple_SET_ITEM(tuple, i, numbers[i]);
    }
    if (failed)
        Py_CLEAR(tuple);
    return tuple;
}

/* A part of data: a copy, or, where that is dearer, a part of a view of it that is made when it is first needed. */
static PyObject *part(PyObject *data, PyObject **view, Py_ssize_t begin, Py_ssize_t length)
{
    if (length <= COPIED_BYTES_MAX)
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + begin, length);
    if (*view == NULL && (*view = PyMemoryView_FromObject(data)) == NULL)
        return NULL;
    return PySequence_GetSlice(*view, begin, begin + length);
}

static PyObject *cut(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *data, *requests, *view = NULL;
    Py_ssize_t at;
    long long data_bytes_max;
    if (!PyArg_ParseTuple(args, "SnLO!", &data, &at, &data_bytes_max, &PyList_Type, &requests))
        return NULL;
    const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(data);
    Py_ssize_t end = PyBytes_GET_SIZE(data);
    if (at < 0 || at > end)
        return PyErr_Format(PyExc_ValueError, "there is no byte %zd among %zd", at, end);
    while (end - at >= REQUEST_BYTES) {
        const unsigned char *header = bytes + at;
        if (get32(header) != REQUEST_MAGIC)
            break;
        Request request = {
            .flags = get16(header + 4),
            .command = get16(header + 6),
            .cookie = get64(header + 8),
            .offset = get64(header + 16),
            .length = get32(header + 24),
        };
        Py_ssize_t begin = at + REQUEST_BYTES, length = 0;
        PyObject *payload;
        if (request.command == WRITE) {
            if ((long long)request.length > data_bytes_max || request.length > (size_t)(end - begin))
                break;
            length = (Py_ssize_t)request.length;
            payload = part(data, &view, begin, length);
        } else {
            payload = Py_NewRef(Py_None);
        }
        PyObject *tuple = request_tuple(&request, payload);
        if (tuple == NULL || PyList_Append(requests, tuple) < 0) {
            Py_XDECREF(tuple);
            Py_XDECREF(view);
            return NULL;
        }
        Py_DECREF(tuple);
        at = begin + length;
    }
    Py_XDECREF(view);
    return PyLong_FromSsize_t(at);
}

/* -- runs of plain requests -- */

/* What makes an extent a good one, and how much of it there may be. */
typedef struct {
    unsigned long long size, mask, length_max;
    long long room_bytes, used_bytes;
} Rules;

/* One that was cut above, or somebody else's tuple like it; -1 with an exception if it is nothing of the kind. */
static int read_request(PyObject *tuple, Request *request)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 6) {
        PyErr_SetString(PyExc_TypeError, "expected a request of six parts");
        return -1;
    }
    request->command = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(tuple, 0));
    request->flags = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(tuple, 1));
    request->cookie = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(tuple, 2));
    request->offset = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(tuple, 3));
    request->length = PyLong_AsUnsignedLong(PyTuple_GET_ITEM(tuple, 4));
    return PyErr_Occurred() ? -1 : 0;
}

static bool is_plain(const Request *request, unsigned long command, const Rules *rules)
{
    unsigned long long length = request->length;
    return request->command == command && request->flags == 0 && length != 0 && length <= rules->length_max &&
           length <= rules->size && request->offset <= rules->size - length &&
           ((request->offset | length) & rules->mask) == 0 && length <= UINT32_MAX - 8 &&
           (long long)length <= rules->room_bytes - rules->used_bytes;
}

/* Append and give up a new reference. */
static int append(PyObject *list, PyObject *item)
{
    int result = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return result;
}

static bool all_zero(PyObject *data)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return false;
    }
    const char *bytes = buffer.buf;
    Py_ssize_t length = buffer.len;
    bool zero = length <= HOLE_BYTES_MAX && (length == 0 || (bytes[0] == 0 && !memcmp(bytes, bytes + 1, length - 1)));
    PyBuffer_Release(&buffer);
    return zero;
}

/* Append the answer to a read. */
static int answer(const Request *request, PyObject *data, bool structured, PyObject *out)
{
    unsigned char head[CHUNK_BYTES + 12], *end = head;
    bool hole = false;
    if (!structured) {
        end = put64(put32(put32(end, SIMPLE_REPLY_MAGIC), 0), request->cookie);
    } else {
        hole = request->length >= HOLE_BYTES_MIN && all_zero(data);
        end = put16(put16(put32(end, STRUCTURED_REPLY_MAGIC), DONE), hole ? OFFSET_HOLE : OFFSET_DATA);
        end = put32(put64(end, request->cookie), hole ? 12 : (uint32_t)request->length + 8);
        end = put64(end, request->offset);
        if (hole)
            end = put32(end, (uint32_t)request->length);
    }
    if (append(out, PyBytes_FromStringAndSize((const char *)head, end - head)) < 0)
        return -1;
    return hole ? 0 : PyList_Append(out, data);
}

/* Read what is asked for; 1: answered, 0: it is not at hand, -1: an exception. */
static int answer_one(const Request *request, PyObject *tuple, PyObject *read_now, bool structured, PyObject *out)
{
    PyObject *arguments[] = {PyTuple_GET_ITEM(tuple, 3), PyTuple_GET_ITEM(tuple, 4)};
    PyObject *data = PyObject_Vectorcall(read_now, arguments, 2, NULL);
    if (data == NULL)
        return -1;
    int result = 0;
    if (data != Py_None) {
        Py_ssize_t length = PyObject_Length(data);
        if (length < 0)
            result = -1;
        else if ((unsigned long long)length == request->length)
            result = answer(request, data, structured, out) < 0 ? -1 : 1;
    }
    Py_DECREF(data);
    return result;
}

static PyObject *answer_reads(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *requests, *read_now, *out;
    Py_ssize_t at, end;
    Rules rules = {0};
    int structured;
    if (!PyArg_ParseTuple(args, "O!nnL(KKK)OpO!", &PyList_Type, &requests, &at, &end, &rules.room_bytes, &rules.size,
                          &rules.mask, &rules.length_max, &read_now, &structured, &PyList_Type, &out))
        return NULL;
    if (at < 0)
        return PyErr_Format(PyExc_ValueError, "there is no request %zd", at);
    while (at < end && at < PyList_GET_SIZE(requests)) {
        PyObject *tuple = Py_NewRef(PyList_GET_ITEM(requests, at));
        Request request;
        int result = read_request(tuple, &request);
        if (result == 0 && is_plain(&request, READ, &rules))
            result = answer_one(&request, tuple, read_now, structured, out);
        Py_DECREF(tuple);
        if (result < 0)
            return NULL;
        if (result == 0)
            break;
        rules.used_bytes += (long long)request.length;
        at++;
    }
    return Py_BuildValue("nL", at, rules.used_bytes);
}

static PyObject *gather_writes(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *requests, *writes, *cookies;
    Py_ssize_t at, end;
    Rules rules = {0};
    if (!PyArg_ParseTuple(args, "O!nnL(KKK)O!O!", &PyList_Type, &requests, &at, &end, &rules.room_bytes, &rules.size,
                          &rules.mask, &rules.length_max, &PyList_Type, &writes, &PyList_Type, &cookies))
        return NULL;
    if (at < 0)
        return PyErr_Format(PyExc_ValueError, "there is no request %zd", at);
    while (at < end && at < PyList_GET_SIZE(requests)) {
        PyObject *tuple = PyList_GET_ITEM(requests, at);
        Request request;
        if (read_request(tuple, &request) < 0)
            return NULL;
        PyObject *data = PyTuple_GET_ITEM(tuple, 5);
        if (!is_plain(&request, WRITE, &rules) || data == Py_None)
            break;
        if (append(writes, PyTuple_Pack(2, PyTuple_GET_ITEM(tuple, 3), data)) < 0 ||
            PyList_Append(cookies, PyTuple_GET_ITEM(tuple, 2)) < 0)
            return NULL;
        rules.used_bytes += (long long)request.length;
        at++;
    }
    return Py_BuildValue("nL", at, rules.used_bytes);
}

/* -- answers -- */

static PyObject *simple_replies(PyObject *Py_UNUSED(module), PyObject *cookies)
{
    if (!PyList_Check(cookies)) {
        PyErr_SetString(PyExc_TypeError, "expected a list of cookies");
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(cookies);
    if (count > PY_SSIZE_T_MAX / SIMPLE_REPLY_BYTES)
        return PyErr_NoMemory();
    PyObject *replies = PyBytes_FromStringAndSize(NULL, count * SIMPLE_REPLY_BYTES);
    if (replies == NULL)
        return NULL;
    unsigned char *to = (unsigned char *)PyBytes_AS_STRING(replies);
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned long long cookie = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(cookies, i));
        if (cookie == (unsigned long long)-1 && PyErr_Occurred()) {
            Py_DECREF(replies);
            return NULL;
        }
        to = put64(put32(put32(to, SIMPLE_REPLY_MAGIC), 0), cookie);
    }
    return replies;
}

static PyObject *is_zero(PyObject *Py_UNUSED(module), PyObject *data)
{
    if (!PyObject_CheckBuffer(data)) {
        PyErr_SetString(PyExc_TypeError, "expected bytes");
        return NULL;
    }
    return PyBool_FromLong(all_zero(data));
}

static PyMethodDef methods[] = {
    {"cut", cut, METH_VARARGS, "The requests that are complete, and where something else begins."},
    {"answer_reads", answer_reads, METH_VARARGS, "Answer the plain reads that come next and are at hand."},
    {"gather_writes", gather_writes, METH_VARARGS, "The plain writes that come next."},
    {"simple_replies", simple_replies, METH_O, "That all of these were done."},
    {"is_zero", is_zero, METH_O, "Whether it is nothing but zeroes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dst.native._nbd",
    .m_doc = "See dst.native.plain_nbd.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__nbd(void)
{
    return PyModuleDef_Init(&definition);
}
