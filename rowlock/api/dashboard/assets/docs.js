// The page at /docs: shows openapi.json, and sends requests as whoever is logged in, or with a key that is typed in.

window.documentation = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#documentation",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    filter: true,
    tryItOutEnabled: true,
    validatorUrl: null, // which would ask another server
    persistAuthorization: false, // a key is kept for as long as the page is open
});
