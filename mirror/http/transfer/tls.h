/* TLS as a client, without Python: what to trust (context.c), and one connection (tls.c).
 *
 * A connection never blocks. It belongs to one thread at a time: OpenSSL keeps its errors for each thread, so
 * they are taken here, in the thread where they happened, and kept with the connection. */
#ifndef MIRROR_TLS_H
#define MIRROR_TLS_H

#if defined(__has_include)
#if !__has_include(<openssl/ssl.h>)
#error "OpenSSL's headers are missing: apt install libssl-dev, or what your distribution calls it"
#endif
#endif

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Room for the reason of a failure, as text. */
enum { TLS_REASON = 256 };

struct tls_files {
    const char *authorities; /* PEM file of whom to trust */
    const char *certificate; /* PEM file with our own and its chain; NULL: we show none */
    const char *key;         /* PEM file with its key; NULL: the same file */
    const char *password;    /* what the key is encrypted with; NULL: there is none. Not kept. */
};

/* Settings for connections that trust those authorities; NULL: reason (of TLS_REASON bytes) says why not.
 * flags are OpenSSL's for the verification, X509_V_FLAG_.... */
SSL_CTX *tls_context(const struct tls_files *files, unsigned long flags, char *reason);

struct tls {
    SSL *ssl;
    char *host;
    int fd;            /* the socket: set before each use, for it is somebody else's */
    bool sends;        /* what returned EAGAIN goes on when the socket takes something */
    /* what was taken from the socket and OpenSSL has not seen */
    char *at;
    size_t size;
    char *kept;        /* where it is while nothing is lent */
    char *lent;
    size_t room;
    size_t want;       /* bytes that are worth taking from the socket at once */
    size_t turn;       /* bytes that may yet be taken from it in this turn */
    bool over;         /* the socket has come to its end */
    int receive_error, send_error; /* of the socket */
    /* the end; nothing is done any more after it */
    bool ended;
    int failed;        /* errno; EPROTO: see the next */
    bool untrusted;    /* it is the certificate */
    char reason[TLS_REASON]; /* the name of OpenSSL's error, or why the certificate is not trusted */
};

/* A connection to a host (a name or an address), whose certificate has to name it; NULL: no memory, or no host. */
struct tls *tls_new(SSL_CTX *context, const char *host);
void tls_free(struct tls *tls);

/* Lend a buffer, the same size each time, for what comes from the socket, for one turn; without one little is
 * taken at a time. No more is taken in a turn than fits in: whoever sends records without contents, or tickets
 * without end, gets no more of the thread than others. */
void tls_lend(struct tls *tls, char *buffer, size_t room);
void tls_take_back(struct tls *tls);

/* As recv and send: bytes, 0 for the end, or -1 with errno. After EAGAIN the same has to be tried again. */
ssize_t tls_receive(struct tls *tls, void *into, size_t size);
ssize_t tls_send(struct tls *tls, const void *from, size_t size);
/* 0: keys are agreed on and the certificate is good; or -1 with errno. ECONNABORTED: it was closed. */
int tls_shake(struct tls *tls);

/* Whether something may be received, or is over, that the socket says nothing of any more. */
bool tls_holds(const struct tls *tls);

/* After EAGAIN: most bytes of what is to be received that the socket need not bring any more. */
size_t tls_most_held(const struct tls *tls);

#endif
