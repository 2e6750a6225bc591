/* One connection: OpenSSL on top of a socket that never makes us wait.
 *
 * Large bodies decide how this is made. OpenSSL by itself asks the kernel twice for each record of 16 KiB, and
 * where it reads ahead it moves all that is left with each record. So what comes is taken from the socket by
 * many records at once, into a buffer that is lent for one turn of the thread and stays in the processor's
 * cache; an idle connection has none. */
#include "tls.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* What a record holds at most, and more bytes than it has beside that. */
enum { RECORD = 16 * 1024, RECORD_FRAME = 64 };

/* -- the socket, as OpenSSL sees it ----------------------------------------------------------- */

/* Take what is in the socket; returns as recv, EAGAIN also when this turn has had enough. */
static ssize_t take(struct tls *tls, char *into, size_t most)
{
    if (tls->lent != NULL && tls->turn < most)
        most = tls->turn;
    if (most == 0) {
        errno = EAGAIN; /* the socket is still readable: it is our turn again after others' */
        return -1;
    }
    ssize_t got;
    do
        got = recv(tls->fd, into, most, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got > 0 && tls->lent != NULL)
        tls->turn -= (size_t)got;
    return got;
}

static int bio_read(BIO *bio, char *into, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    if (tls->size == 0) {
        free(tls->kept);
        tls->kept = NULL;
        bool lent = tls->lent != NULL;
        size_t want = tls->want > (size_t)size ? tls->want : (size_t)size;
        ssize_t got = lent ? take(tls, tls->lent, want < tls->room ? want : tls->room)
                           : take(tls, into, (size_t)size);
        if (got < 0) {
            if (errno == EAGAIN)
                BIO_set_retry_read(bio);
            else
                tls->receive_error = errno;
            return -1;
        }
        if (got == 0) {
            tls->over = true;
            return 0;
        }
        if (!lent)
            return (int)got;
        tls->at = tls->lent;
        tls->size = (size_t)got;
    }
    size_t given = tls->size < (size_t)size ? tls->size : (size_t)size;
    memcpy(into, tls->at, given);
    tls->at += given;
    tls->size -= given;
    return (int)given;
}

static int bio_write(BIO *bio, const char *from, int size)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    ssize_t sent;
    do
        sent = send(tls->fd, from, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (errno == EAGAIN)
            BIO_set_retry_write(bio);
        else
            tls->send_error = errno;
    }
    return (int)sent;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)number, (void)pointer;
    const struct tls *tls = BIO_get_data(bio);
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return tls->over;
    default:
        return 0;
    }
}

static BIO_METHOD *method;

static void make_method(void)
{
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket of mirror");
    if (made != NULL && BIO_meth_set_read(made, bio_read) && BIO_meth_set_write(made, bio_write)
        && BIO_meth_set_ctrl(made, bio_control))
        method = made;
    else
        BIO_meth_free(made);
}

/* -- its life --------------------------------------------------------------------------------- */

/* Have the certificate name the host; only names are said in the clear, so that a server can choose by them. */
static bool expect(SSL *ssl, const char *host)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1)
        return true;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return host[0] != '\0' && SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct tls *tls_new(SSL_CTX *context, const char *host)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    ERR_clear_error();
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = method == NULL ? NULL : BIO_new(method);
    if (tls != NULL && bio != NULL && (tls->host = strdup(host)) != NULL && (tls->ssl = SSL_new(context)) != NULL
        && expect(tls->ssl, host)) {
        tls->fd = -1;
        BIO_set_data(bio, tls);
        BIO_set_init(bio, 1);
        SSL_set_bio(tls->ssl, bio, bio);
        SSL_set_connect_state(tls->ssl);
        return tls;
    }
    BIO_free(bio);
    if (tls != NULL)
        tls_free(tls);
    ERR_clear_error();
    return NULL;
}

void tls_free(struct tls *tls)
{
    SSL_free(tls->ssl);
    free(tls->host);
    free(tls->kept);
    free(tls);
}

/* -- turns ------------------------------------------------------------------------------------ */

void tls_lend(struct tls *tls, char *buffer, size_t room)
{
    if (tls->size > 0) {
        memcpy(buffer, tls->at, tls->size); /* it came out of such a buffer */
        tls->at = buffer;
    }
    free(tls->kept);
    tls->kept = NULL;
    tls->lent = buffer;
    tls->room = room;
    tls->turn = room;
}

void tls_take_back(struct tls *tls)
{
    tls->lent = NULL;
    if (tls->size == 0)
        return;
    tls->kept = malloc(tls->size);
    if (tls->kept == NULL) {
        tls->size = 0;
        tls->failed = ENOMEM; /* bytes are lost: this connection is of no more use */
        return;
    }
    memcpy(tls->kept, tls->at, tls->size);
    tls->at = tls->kept;
}

bool tls_holds(const struct tls *tls)
{
    return tls->size > 0 || tls->ended || tls->failed || SSL_has_pending(tls->ssl) || SSL_get_shutdown(tls->ssl);
}

size_t tls_most_held(const struct tls *tls)
{
    /* OpenSSL has less than a record, unless it was refused what the socket still has. */
    return tls->turn == 0 ? SIZE_MAX : RECORD + RECORD_FRAME;
}

/* -- sending and receiving -------------------------------------------------------------------- */

/* Keep why OpenSSL gave up: the name of its error as its headers and Python have it, or what the certificate lacks. */
static void explain(struct tls *tls)
{
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        tls->untrusted = true;
        long result = SSL_get_verify_result(tls->ssl);
        const char *kind = result == X509_V_ERR_HOSTNAME_MISMATCH     ? "Hostname"
                           : result == X509_V_ERR_IP_ADDRESS_MISMATCH ? "IP address"
                                                                      : NULL;
        if (kind != NULL)
            snprintf(tls->reason, TLS_REASON, "%s mismatch, certificate is not valid for '%s'.", kind, tls->host);
        else
            snprintf(tls->reason, TLS_REASON, "%s", X509_verify_cert_error_string(result));
        return;
    }
    const char *said = ERR_reason_error_string(error);
    snprintf(tls->reason, TLS_REASON, "%s", said == NULL ? "" : said);
    for (char *at = tls->reason; *at != '\0'; at++)
        *at = *at == ' ' ? '_' : (char)toupper((unsigned char)*at);
}

/* What an operation that did not succeed has come to; returns as the operation. */
static int judge(struct tls *tls, int result)
{
    int kind = SSL_get_error(tls->ssl, result);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        tls->sends = kind == SSL_ERROR_WANT_WRITE;
        errno = EAGAIN;
        return -1;
    }
    if (kind == SSL_ERROR_ZERO_RETURN || tls->over) {
        tls->ended = true; /* with a goodbye or without: lengths tell of a cut */
        ERR_clear_error();
        return 0;
    }
    if (tls->receive_error)
        tls->failed = tls->receive_error;
    else if (kind != SSL_ERROR_SSL && tls->send_error)
        tls->failed = tls->send_error;
    else {
        tls->failed = EPROTO;
        explain(tls);
    }
    ERR_clear_error();
    errno = tls->failed;
    return -1;
}

/* Whether it is at its end already, or has failed; result is what to return then. */
static bool is_over(struct tls *tls, int *result)
{
    tls->sends = false;
    errno = tls->failed;
    *result = tls->failed ? -1 : 0;
    return tls->failed || tls->ended;
}

ssize_t tls_receive(struct tls *tls, void *into, size_t size)
{
    int result;
    if (is_over(tls, &result))
        return result;
    size_t got;
    tls->want = size + (size / RECORD + 1) * RECORD_FRAME;
    ERR_clear_error();
    result = SSL_read_ex(tls->ssl, into, size, &got);
    return result == 1 ? (ssize_t)got : judge(tls, result);
}

ssize_t tls_send(struct tls *tls, const void *from, size_t size)
{
    int result;
    size_t sent;
    if (!is_over(tls, &result)) {
        ERR_clear_error();
        result = SSL_write_ex(tls->ssl, from, size, &sent);
        if (result == 1)
            return (ssize_t)sent;
        result = judge(tls, result);
    }
    if (result == 0) {
        errno = EPIPE; /* nobody is there any more */
        return -1;
    }
    return result;
}

int tls_shake(struct tls *tls)
{
    int result;
    if (!is_over(tls, &result)) {
        tls->want = RECORD;
        ERR_clear_error();
        result = SSL_do_handshake(tls->ssl);
        if (result == 1)
            return 0;
        result = judge(tls, result);
    }
    if (result == 0) {
        errno = ECONNABORTED;
        return -1;
    }
    return result;
}
