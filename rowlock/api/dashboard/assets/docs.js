// The page at /docs: shows openapi.json, and sends requests in the session, or with a key that the user enters.

window.documentation = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#documentation",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    filter: true,
    tryItOutEnabled: true,
    validatorUrl: null, // it would send the document to another server
    persistAuthorization: false, // keep a key only while the page is open
});
